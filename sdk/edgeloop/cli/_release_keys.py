"""`edgeloop release keys` and `sign`: who may sign what, changed, with owners whose keys are somewhere else."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.trust import PublicKey, fingerprint, read_public_keys
from edgeloop.cli._console import Console
from edgeloop.deploy.release.change import Change, Missing
from edgeloop.deploy.release.keyring import Keyring
from edgeloop.deploy.release.repository import Repository, clock, locked
from edgeloop.deploy.release.roles import GROUPS, ROOT, Group
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def keys(args: argparse.Namespace, console: Console) -> int:
    """Show them, or change them."""
    if args.change == "show":
        if args.group or args.threshold is not None:
            raise UsageError("release keys REPO shows all groups", hint="release keys REPO set --group G --threshold N")
        return _say(args, console, Repository.load(args.repo), ())
    with locked(args.repo):
        repository = Repository.load(args.repo)
        change = Change.of(repository, Keyring.open(args.key), clock())
        change.set_groups(_changed(args, repository))
        if not change.changed:
            raise UsageError("the keys are so already", hint=f"edgeloop release keys {args.repo}")
        missing = change.commit()
    return _say(args, console, Repository.load(args.repo), missing)


def sign(args: argparse.Namespace, console: Console) -> int:
    """What waits for owners' signatures: in the repository, or in a folder that was brought to where their key is."""
    from edgeloop.deploy.release.setup import finish

    with locked(args.repo):
        missing = finish(args.repo, Keyring.open(args.key), clock())
    if missing:
        _say_missing(console, missing)
        console.result({"repo": str(args.repo), "live": False, "missing": [vars(m) for m in missing]}, "signed")
        return EXIT_DONE
    return _say(args, console, Repository.load(args.repo), ())


def _changed(args: argparse.Namespace, repository: Repository) -> dict[str, Group]:
    from dataclasses import replace

    from edgeloop.deploy.release.setup import read_groups, with_key, without_key

    groups = read_groups(repository)
    names = (args.group,) if args.group else tuple(GROUPS)
    new: Mapping[str, Group] = groups
    usage = {"add": "add NEW.pub", "rotate": "rotate OLD NEW.pub", "revoke": "revoke OLD", "set": "set"}[args.change]
    if len(args.which) != len(usage.split()) - 1:
        raise UsageError(f"release keys {args.change}: which key?", hint=f"edgeloop release keys REPO {usage}")
    if args.group is None and args.change in ("add", "set"):
        raise UsageError("in which group?", hint=f"--group {'|'.join(GROUPS)}")
    if args.change == "set":
        if args.threshold is None:
            raise UsageError("release keys set: what?", hint="--threshold N")
    elif args.change == "add":
        new = with_key(new, names, _public(args.which[0]))
    else:
        old = _old(args.which[0], groups)
        holding = [name for name in names if any(raw == old for raw in groups[name].keys.values())]
        if args.change == "rotate":
            new = with_key(new, holding, _public(args.which[1]))
        new = without_key(new, names, old)
    if args.threshold is not None:
        new = {name: replace(g, threshold=args.threshold) if name in names else g for name, g in new.items()}
    return dict(new)


def _old(text: str, groups: Mapping[str, Group]) -> bytes:
    """A key of the repository by its fingerprint (or the start of it) or its .pub file."""
    if text.endswith(".pub"):
        return _public(text).raw
    every = {fingerprint(raw): raw for group in groups.values() for raw in group.keys.values()}
    found = [raw for shown, raw in every.items() if shown.removeprefix("el:").startswith(text.removeprefix("el:"))]
    if len(found) != 1:
        raise UsageError(f"no key {text!r} here" if not found else f"{text!r} is several keys", hint=", ".join(every))
    return found[0]


def _public(file: str) -> PublicKey:
    found = read_public_keys(Path(file))
    if len(found) != 1:
        raise UsageError(f"{file} holds {len(found)} keys", hint="one key a file")
    return found[0]


def _say_missing(console: Console, missing: Sequence[Missing]) -> None:
    console.note(f"not live yet, signatures are missing: {'; '.join(map(str, missing))}")


def _say(args: argparse.Namespace, console: Console, repository: Repository, missing: Sequence[Missing]) -> int:
    from edgeloop.deploy.release.setup import read_groups, staged

    groups = read_groups(repository)
    if missing:
        _say_missing(console, missing)
        console.note(f"  -> edgeloop release sign {args.repo} --key FILE")
    elif waiting := staged(args.repo):
        console.note(f"{' and '.join(waiting)} wait for signatures: edgeloop release sign {args.repo} --key FILE")
    data: dict[str, Any] = {
        "repo": str(args.repo),
        "root_version": repository.metadata[ROOT].signed.version,
        "live": not missing,
        "missing": [vars(each) for each in missing],
        "groups": {
            name: {"threshold": group.threshold, "keys": sorted(fingerprint(raw) for raw in group.keys.values())}
            for name, group in groups.items()
        },
    }
    lines = [
        f"{name:<12} {group.threshold} of {len(group.keys)}: {', '.join(sorted(map(fingerprint, group.keys.values())))}"
        for name, group in groups.items()
    ]
    console.result(data, "\n".join(lines))
    return EXIT_DONE
