"""`edgeloop collect init|token|device|user|audit`: what an operator does beside the running collector, on its store."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._collect_examples import EXAMPLES
from edgeloop.cli._console import Console
from edgeloop.cli._words import counted
from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.store import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.security.security import Security

_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d{1,6})([mhdw])")
_ROLES = ("viewer", "operator")


def add_subverbs(parser: argparse.ArgumentParser) -> None:
    """Of `edgeloop collect`, which goes without one, too."""
    verbs = parser.add_subparsers(dest="matter", metavar="init | token | device | user | audit", required=False)

    def verb(name: str, line: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(
            name, help=line, description=f"{line[0].upper()}{line[1:]}.", epilog=EXAMPLES[name]
        )
        return made

    init = verb("init", "make a private CA and a server certificate")
    init.add_argument("--dir", type=Path, metavar="DIR", help="default: collector/ in the user's configuration")
    init.add_argument("--host", action="append", default=[], metavar="NAME", help="a name or address that devices use")
    init.add_argument("--renew", action="store_true", help="a new server certificate of the CA that is there")

    token = verb("token", "tokens: to enroll devices; for scripts with --api")
    token.add_argument("action", choices=("create", "list", "revoke"))
    token.add_argument("id", nargs="?", help="which one, for revoke")
    token.add_argument("--uses", type=int, metavar="N", default=1, help="how many devices may use it (default 1)")
    token.add_argument("--expires", metavar="TIME", default="7d", help="30m, 12h, 7d, 4w (default 7d)")
    token.add_argument("--group", metavar="NAME", default="", help="group of the devices that use it")
    token.add_argument("--tag", action="append", default=[], metavar="K=V", help="tag of the devices that use it")
    token.add_argument(
        "--device", metavar="NAME", default="", help="only for this one, also when it is enrolled already"
    )
    token.add_argument("--api", metavar="NAME", help="no enrollment: for a script or Prometheus of this name")
    token.add_argument("--role", choices=_ROLES, default="viewer", help="what an --api token may (default viewer)")

    device = verb("device", "the registry of devices")
    device.add_argument("action", choices=("list", "show", "tag", "group", "revoke", "remove"))
    device.add_argument("names", nargs="*", metavar="NAME", help="devices; for tag also K=V, or K- to take it away")
    device.add_argument("--group", metavar="NAME", help="list: only this group; group: the new one ('' for none)")
    device.add_argument("--tag", action="append", default=[], metavar="K=V", help="list: only with this tag")

    user = verb("user", "people who may log in")
    user.add_argument("action", choices=("add", "list", "password", "remove"))
    user.add_argument("name", nargs="?")
    user.add_argument("--role", choices=_ROLES, default="viewer", help="default viewer")
    user.add_argument("--password-stdin", action="store_true", help="read the password from stdin, one line")

    audit = verb("audit", "who did what, when and from where")
    audit.add_argument("--limit", type=int, default=100, metavar="N", help="the newest N (default 100)")
    audit.add_argument("--action", default="", metavar="NAME", help="only these, e.g. device or login.failed")

    for each in (token, device, user, audit):
        each.add_argument("--store", metavar="URL", default=argparse.SUPPRESS, help=f"default {DEFAULT_STORE_URL}")


def run_subverb(args: argparse.Namespace, console: Console) -> int:
    """The one in `args.matter`."""
    verbs: Mapping[str, Callable[[argparse.Namespace, Console], None]] = {
        "init": _init, "token": _token, "device": _device, "user": _user, "audit": _audit,
    }  # fmt: skip
    verbs[args.matter](args, console)
    return 0


def _init(args: argparse.Namespace, console: Console) -> None:
    from edgeloop.telemetry.collector.security.authority import Authority, check_hosts, default_folder

    folder = args.dir or default_folder()
    check_hosts(args.host)
    if args.renew:
        authority = Authority.load(folder)
        authority.renew(args.host)
    else:
        authority = Authority.create(folder, args.host)
    server = authority.server
    data = {
        "dir": str(folder), "ca": str(authority.ca_path), "fingerprint": authority.fingerprint,
        "names": list(server.names), "expires_s": server.not_after_s, "renewed": args.renew,
    }  # fmt: skip
    lines = [
        f"CA        {authority.fingerprint}  (valid until {_day(authority.ca.not_after_s)})",
        f"server    {', '.join(server.names)}  (valid until {_day(server.not_after_s)})",
        f"devices   {authority.ca_path}  (give it to them; the rest of the folder stays here)",
    ]
    lines.append(
        "a running collector uses it from the next connection on"
        if args.renew
        else f"next: edgeloop collect user add NAME, then edgeloop collect --tls {folder} --listen 0.0.0.0:8443"
    )
    console.result(data, "\n".join(lines))


def _token(args: argparse.Namespace, console: Console) -> None:
    from edgeloop.telemetry.collector.security.records import check_name, parse_tags
    from edgeloop.telemetry.collector.security.secrets import API, ENROLL, SESSION

    with _security(args.store, console if args.action == "create" else None) as security:
        if args.action == "list":
            now = time.time()
            tokens = [
                {**token.__dict__, "status": token.status(now)}
                for token in security.tokens.list()
                if token.kind != SESSION
            ]
            lines = [
                f"{t['id']}  {t['kind']:<6}  {t['status']:<8}  used {t['used']} of {t['uses'] or 'any'}  "
                f"{'until ' + _day(t['expires_s']) if t['expires_s'] else 'no end'}  {t['subject'] or t['group']}"
                for t in tokens
            ]
            console.result({"tokens": tokens}, "\n".join(lines) or "no token yet: edgeloop collect token create")
            return
        if args.action == "revoke":
            token_id = _needed(args.id, "which token?", "edgeloop collect token list")
            security.revoke_token(token_id, user_name())
            console.result({"revoked": token_id}, f"revoked {token_id}")
            return
        if not 1 <= args.uses <= 1_000_000:
            raise UsageError(f"--uses {args.uses}: 1 to 1000000")
        lasts_s = _seconds(args.expires)
        if args.api is not None:
            secret = security.create_token(
                API, user_name(), subject=check_name(args.api, "--api"), role=args.role, lasts_s=lasts_s
            )
        else:
            for text, what in ((args.group, "group"), (args.device, "device")):
                if text:
                    check_name(text, what)
            secret = security.create_token(
                ENROLL, user_name(), subject=args.device, uses=1 if args.device else args.uses, group=args.group,
                tags=parse_tags(args.tag), lasts_s=lasts_s,
            )  # fmt: skip
    console.note(f"token {secret.id}: shown this once; it expires in {args.expires}")
    data = {"id": secret.id, "token": secret.text, "kind": secret.kind, "expires_s": time.time() + lasts_s}
    console.result(data, secret.text)


def _device(args: argparse.Namespace, console: Console) -> None:
    from edgeloop.telemetry.collector.security.records import parse_tags

    with _security(args.store) as security:
        registry = security.registry
        if args.action == "list":
            devices = [d.to_dict() for d in registry.list(args.group, parse_tags(args.tag))]
            console.result({"devices": devices}, "\n".join(map(_device_line, devices)) or "no device is enrolled yet")
            return
        names = [name for name in args.names if args.action != "tag" or not _is_tag(name)]
        _needed(names, "which device?", f"edgeloop collect device {args.action} NAME")
        if args.action == "tag":
            changes = [name for name in args.names if _is_tag(name)]
            _needed(changes, "which tag?", f"edgeloop collect device tag {names[0]} site=berlin")
            add = parse_tags([change for change in changes if "=" in change])
            registry.tag(names, add, {change[:-1] for change in changes if "=" not in change}, user_name())
        elif args.action == "group":
            if args.group is None:
                raise UsageError("which group?", hint=f"edgeloop collect device group {names[0]} --group NAME")
            registry.set_group(names, args.group, user_name())
        elif args.action in ("revoke", "remove"):
            getattr(registry, args.action)(names, user_name())
        if args.action == "remove":
            console.result({"removed": names}, f"removed {counted(len(names), 'device')}; their reports stay")
            return
        devices = [registry.get(name).to_dict() for name in names]
        console.result({"devices": devices}, "\n".join(map(_device_line, devices)))


def _user(args: argparse.Namespace, console: Console) -> None:
    with _security(args.store, console if args.action == "add" else None) as security:
        if args.action == "list":
            users = [user.__dict__ for user in security.users.list()]
            console.result({"users": users}, "\n".join(f"{u['name']}  {u['role']}" for u in users) or "no user yet")
            return
        name = _needed(args.name, "which user?", f"edgeloop collect user {args.action} NAME")
        if args.action == "add":
            security.users.add(name, _password(args), args.role, user_name())
        elif args.action == "password":
            security.users.set_password(name, _password(args), user_name())
        else:
            security.users.remove(name, user_name())
    console.result({"user": name, "action": args.action}, f"{args.action}: {name}")


def _audit(args: argparse.Namespace, console: Console) -> None:
    from edgeloop.telemetry.collector.notices import printable

    with _security(args.store) as security:
        entries = [e.__dict__ for e in security.audit.entries(limit=max(args.limit, 1), action=args.action)]
    lines = [
        printable(f"{_day(e['time_s'])}  {e['action']:<15}  {e['subject']}  by {e['who']} from {e['origin']}", 500)
        for e in entries
    ]
    console.result({"entries": entries}, "\n".join(lines) or "nothing yet")


@contextmanager
def _security(store_url: str, console: Console | None = None) -> Iterator[Security]:
    """console: makes a store where there is none, and says so there."""
    from edgeloop.telemetry.store import open_store

    try:
        store = open_store(store_url, create=False)
    except DataError:
        if console is None:
            raise
        store = open_store(store_url)
        console.note(f"made a new store, {store.url}: start the collector on it, or name the collector's with --store")
    try:
        from edgeloop.telemetry.collector.security.security import Security

        yield Security.over(store.database)
    finally:
        store.close()


def _password(args: argparse.Namespace) -> str:
    if args.password_stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise UsageError("the two passwords differ")
    return password


def _device_line(device: Mapping[str, Any]) -> str:
    tags = " ".join(f"{key}={value}" for key, value in device["tags"].items())
    seen = "never" if device["last_seen_s"] is None else _day(device["last_seen_s"])
    kind = device["kind"] or "-"
    return f"{device['device']}  {device['status']}  {kind}  group {device['group'] or '-'}  {tags or '-'}  seen {seen}"


def _is_tag(text: str) -> bool:
    """`K=V` or `K-`. A device whose name looks like one can be named to every other action."""
    return "=" in text or text.endswith("-")


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"--expires {text!r} is no time", hint="30m, 12h, 7d or 4w")
    return int(match[1]) * _UNITS_S[match[2]]


def _needed(value: Any, question: str, hint: str) -> Any:
    if not value:
        raise UsageError(question, hint=hint)
    return value


def user_name() -> str:
    """Of whoever runs this, for the audit log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
