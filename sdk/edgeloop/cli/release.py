"""Versions for a fleet: a signed repository that agents pull from, rolled out in steps, watched and stopped.

A repository is a folder that any web server can serve; devices trust its signatures, not the server.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from edgeloop.cli._console import Console
from edgeloop.cli._words import examples_of
from edgeloop.errors import UsageError

EPILOG = """example:
  edgeloop release publish repo/ ic-8.bundle --percent 10 --max-p95 20   makes the repository at first use
  edgeloop deploy ssh://pi@pi4.local ic-7.bundle --release https://host/repo --release-root repo/metadata/1.root.json
  edgeloop release status repo/ --telemetry http://127.0.0.1:8080        who has what, and how it does
  edgeloop release watch repo/ --telemetry http://127.0.0.1:8080         halts what rolls back or is too slow
  edgeloop release promote repo/ --percent 50                            more devices; --to stable: another channel

Serve metadata/ and targets/ of the folder. docs/release.md has the keys, the rules, and how to copy it to a bucket."""

_EXAMPLES = """
  edgeloop release init repo/ --owner alice.pub --owner bob.pub --owner-threshold 2 --online server.pub
  edgeloop release publish repo/ kitchen-2.config --tag kitchen
  edgeloop release pause repo/ ic 8 --reason "until Monday"
  edgeloop release halt repo/ --reason "wrong labels"
  edgeloop release resume repo/
  edgeloop release keys repo/
  edgeloop release keys repo/ rotate el:834a-0e3f new.pub
  edgeloop release sign repo/ --key alice.key
  edgeloop release refresh repo/ --key server.key
  edgeloop release prune repo/ --dry-run"""
_TELEMETRY = "a store (sqlite:///telemetry.db) or a collector's address"
_Act = Callable[[argparse.Namespace, Console], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, line: str) -> argparse.ArgumentParser:
        examples = examples_of(f"edgeloop release {name}", f"{EPILOG}\n{_EXAMPLES}")
        sub = subs.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".", epilog=examples)
        sub.add_argument("repo", metavar="REPO", type=Path, help="the repository's folder")
        sub.add_argument(
            "--key", metavar="FILE", type=Path, action="append", default=[],
            help="private key to sign with; repeatable (default: yours, see edgeloop keys)",
        )  # fmt: skip
        return sub

    def offer_of(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("name", metavar="NAME", nargs="?", help="the bundle's name, where there are several")
        sub.add_argument("version", metavar="VERSION", nargs="?", type=int, help="default: its highest")
        sub.add_argument("--channel", default="stable", help="default: %(default)s")

    def cohort(sub: argparse.ArgumentParser, percent: float | None) -> None:
        sub.add_argument("--percent", type=_percent, default=percent, metavar="P", help="of the devices (default: 100)")
        sub.add_argument(
            "--tag", action="append", metavar="TAG", help="only devices with this tag in their config; repeatable"
        )

    init = action("init", "make a repository; with one key (yours) unless others are named")
    for group, what in (
        ("owner", "who says who may sign; may stay offline"),
        ("publisher", "who takes bundles in"),
        ("online", "who steers, halts and keeps it fresh"),
    ):
        init.add_argument(f"--{group}", metavar="PUB", type=Path, action="append", default=[], help=what)
        init.add_argument(f"--{group}-threshold", metavar="N", type=int, default=1, help="so many must sign")
    init.add_argument("--days", metavar="ROLE=N", action="append", default=[], help="how long a role's metadata hold")

    publish = action("publish", "take a bundle in and offer it in a channel")
    publish.add_argument("bundle", metavar="BUNDLE", type=Path)
    publish.add_argument("--channel", default="stable", help="default: %(default)s")
    cohort(publish, 100.0)
    publish.add_argument("--max-p95", metavar="MS", type=float, help="halted where the cohort's p95 is above")
    publish.add_argument("--older", action="store_true", help="also where the channel offers a newer one")

    for name, line in (
        ("pause", "nobody takes a version for now; who has it keeps it"),
        ("halt", "as pause, because it is bad; said to everybody who asks"),
        ("resume", "its cohort takes it again; what was reported so far counts no more"),
    ):
        sub = action(name, line)
        offer_of(sub)
        if name != "resume":
            sub.add_argument("--reason", default="by hand", metavar="TEXT", help="one line (default: by hand)")

    promote = action("promote", "a version for more devices, or in another channel")
    offer_of(promote)
    cohort(promote, None)
    promote.add_argument("--no-tags", action="store_true", help="for devices without tags, too")
    promote.add_argument("--to", metavar="CHANNEL", help="offer it there, too")
    promote.add_argument("--older", action="store_true", help="also where that channel offers a newer one")

    status = action("status", "what is offered to whom, and with --telemetry what became of it")
    status.add_argument("--channel", help="only this one")
    status.add_argument("--telemetry", metavar="STORE", help=_TELEMETRY)

    watch = action("watch", "halt what devices go back from or what is too slow on them, as telemetry says")
    watch.add_argument("--telemetry", metavar="STORE", required=True, help=_TELEMETRY)
    watch.add_argument("--interval", metavar="S", type=float, default=60.0, help="between looks (default: %(default)g)")
    watch.add_argument("--once", action="store_true", help="look once; exit code 1 where something was halted")
    watch.add_argument(
        "--tolerate", metavar="PERCENT", type=float, default=2.0,
        help="of the devices that tried a version may go back or refuse it (default: %(default)g, of a few: none)",
    )  # fmt: skip

    keys = action("keys", "who may sign what; add, rotate or revoke a key, set a threshold")
    keys.add_argument("change", nargs="?", choices=("show", "add", "rotate", "revoke", "set"), default="show")
    keys.add_argument("which", nargs="*", metavar="KEY", help="OLD: fingerprint or .pub file; NEW: .pub file")
    keys.add_argument("--group", choices=("owners", "publishers", "online"), help="only there (default: all)")
    keys.add_argument("--threshold", metavar="N", type=int, help="so many of the group must sign from now on")

    prune = action("prune", "remove the files of versions that no channel offers any more")
    prune.add_argument("--dry-run", action="store_true", help="say what would go")

    action("sign", "sign what waits for the signatures of owners; live when there are enough")
    action("refresh", "sign again what expires soon; from cron, where nothing is published for weeks")


def run(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.cli import _release_actions as actions
    from edgeloop.cli._release_keys import keys, sign
    from edgeloop.cli._release_pruning import prune
    from edgeloop.cli._release_watching import watch
    from edgeloop.deploy.release.keyring import need_tuf

    need_tuf()
    table: dict[str, _Act] = {
        "init": actions.init,
        "publish": actions.publish,
        "pause": actions.stop,
        "halt": actions.stop,
        "resume": actions.resume,
        "promote": actions.promote,
        "status": actions.status,
        "refresh": actions.refresh,
        "prune": prune,
        "watch": watch,
        "keys": keys,
        "sign": sign,
    }
    return table[args.action](args, console)


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(f"--percent {text!r} is not 0 to 100", hint="for example --percent 10")
    return value
