"""What `edgeloop release ACTION` does: each opens the repository, changes it as a whole and says what is so now."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.cli._release_text import channel_lines, offer_dict, offer_line, progress_dict, size_text
from edgeloop.deploy.release.change import Change, Missing
from edgeloop.deploy.release.keyring import Keyring
from edgeloop.deploy.release.repository import Repository, clock, expires_soon, locked, newest_root, time_left
from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.release.channel import HALTED, PAUSED, Channel, Offer

if TYPE_CHECKING:
    from edgeloop.deploy.release.rollout import Progress


def init(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.roles import ONLINE, OWNERS, PUBLISHERS
    from edgeloop.deploy.release.setup import create, group_with, one_key

    keyring = Keyring.open(args.key)
    groups = one_key(keyring)
    for name, option in ((OWNERS, "owner"), (PUBLISHERS, "publisher"), (ONLINE, "online")):
        files, threshold = getattr(args, option), getattr(args, f"{option}_threshold")
        if files:
            groups[name] = group_with(_public_keys(files), threshold)
        elif threshold != 1:
            raise UsageError(f"--{option}-threshold without --{option}", hint=f"--{option} FILE.pub, for each key")
    with locked(args.repo):
        missing = create(args.repo, groups, keyring, clock(), _days(args.days))
    _say_made(args, console, missing)
    return EXIT_DONE


def publish(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.publish import publish as take_in
    from edgeloop.deploy.release.publish import verified
    from edgeloop.deploy.release.setup import create, one_key, staged

    _check_name("--channel", args.channel)
    if args.max_p95 is not None and not 0 < args.max_p95 < 1e9:
        raise UsageError(f"--max-p95 {args.max_p95:g} is not above 0")
    keyring = Keyring.open(args.key)
    if not newest_root(args.repo) and not staged(args.repo):
        verified(args.bundle)  # else an empty repository would stay behind
    with locked(args.repo):
        if not newest_root(args.repo) and not staged(args.repo):
            create(args.repo, one_key(keyring), keyring, clock())
            console.note(f"{args.repo}: made, signed by {_shown(keyring)}")
        with _change(args, console, keyring) as change, console.step("publishing"):
            done = take_in(
                change, args.bundle, args.channel, percent=args.percent, tags=_tags(args.tag),
                p95_ms=args.max_p95, older=args.older,
            )  # fmt: skip
    offer = done.offer
    lines = [f"{args.channel}: {offer_line(offer)}"]
    lines += [
        f"  delta from {d.from_sha256[:16]}: {size_text(d.bytes)} of {size_text(offer.bytes)}" for d in done.deltas
    ]
    console.result(
        {"repo": str(args.repo), "channel": args.channel, "serial": done.channel.serial, "new_file": done.is_new,
         **offer_dict(offer)},
        "\n".join(lines),
    )  # fmt: skip
    return EXIT_DONE


def stop(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.steering import stopped

    state = PAUSED if args.action == "pause" else HALTED
    return _steer(args, console, lambda channel, offer, _now: stopped(channel, offer, state, args.reason))


def resume(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.steering import resumed

    return _steer(args, console, resumed)


def promote(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.steering import brought, find, promoted

    if args.no_tags and args.tag:
        raise UsageError("--no-tags and --tag at once", hint="one of them")
    tags = () if args.no_tags else _tags(args.tag) if args.tag else None
    _check_name("--to", args.to or args.channel)
    if args.to is None or args.to == args.channel:
        percent = 100.0 if args.percent is None else args.percent
        return _steer(args, console, lambda channel, offer, _now: promoted(channel, offer, percent, tags))
    with locked(args.repo), _change(args, console, Keyring.open(args.key)) as change:
        source, to = _channel(change, args.channel), _repository(change).channel(args.to)
        offer = find(source, args.name, args.version)
        percent = 100.0 if args.percent is None else args.percent
        now_s = int(change.now.timestamp())
        new = change.set_channel(brought(source, to, offer, percent, tags or (), now_s, older=args.older))
    return _say_offer(console, args, new, find(new, offer.name, offer.version))


def refresh(args: argparse.Namespace, console: Console) -> int:
    """The online roles always; the others when their time comes and their keys are at hand."""
    from edgeloop.deploy.release.roles import GROUPS, ONLINE, group_of

    keyring = Keyring.open(args.key)
    with locked(args.repo):
        change = Change.of(Repository.load(args.repo), keyring, clock())
        change.changed |= set(GROUPS[ONLINE])
        for role in expires_soon(_repository(change), change.now):
            delegator = next(iter(change._delegators(role)))
            if not set(delegator.get_delegated_role(role).keyids).isdisjoint(keyring.keys):
                change.changed.add(role)
            else:
                console.note(f"warning: {role} expires soon, and no key of the {group_of(role)} is at hand: --key FILE")
        _settled(change.commit(), console, args)
    left = time_left(Repository.load(args.repo), clock())
    data = {role: round(each.total_seconds()) for role, each in left.items()}
    role, first = next(iter(left.items()))
    console.result({"repo": str(args.repo), "seconds_left": data}, f"fresh: next is {role}, in {first.days} days")
    return EXIT_DONE


def status(args: argparse.Namespace, console: Console) -> int:
    repository = Repository.load(args.repo)
    warn(console, repository)
    channels = repository.channels()
    if args.channel is not None:
        channels = {args.channel: _known(repository, args.channel)}
    found = _progress(args.telemetry, channels) if args.telemetry is not None else {}
    data: dict[str, Any] = {
        "repo": str(args.repo),
        "seconds_left": {r: round(t.total_seconds()) for r, t in time_left(repository, clock()).items()},
        "channels": {},
    }
    lines = []
    for name, channel in channels.items():
        shown = [(offer, found.get((name, offer.name, offer.version))) for offer in reversed(channel.offers)]
        offers = [{**offer_dict(offer), **(progress_dict(each) if each else {})} for offer, each in shown]
        data["channels"][name] = {"serial": channel.serial, "offers": offers}
        lines += channel_lines(channel, shown)
    console.result(data, "\n".join(lines) or "nothing is published yet")
    return EXIT_DONE


def _progress(telemetry: str, channels: Mapping[str, Channel]) -> dict[tuple[str, str, int], Progress]:
    """By channel, name and version."""
    from edgeloop.deploy.release.rollout import read_progress
    from edgeloop.telemetry.reading import open_reader

    reader = open_reader(telemetry)
    try:
        return {(p.channel, p.offer.name, p.offer.version): p for p in read_progress(reader, channels.values())}
    finally:
        reader.close()


# -- what they share


@contextmanager
def _change(args: argparse.Namespace, console: Console, keyring: Keyring) -> Iterator[Change]:
    """A change of the repository, committed at the end; warned about what expires soon."""
    repository = Repository.load(args.repo)
    change = Change.of(repository, keyring, clock())
    yield change
    _settled(change.commit(), console, args)
    warn(console, Repository.load(args.repo))


def _steer(args: argparse.Namespace, console: Console, changed: Callable[[Channel, Offer, int], Channel]) -> int:
    from edgeloop.deploy.release.steering import find

    with locked(args.repo), _change(args, console, Keyring.open(args.key)) as change:
        channel = _channel(change, args.channel)
        offer = find(channel, args.name, args.version)
        new = changed(channel, offer, int(change.now.timestamp()))
        is_changed = new != channel
        new = change.set_channel(new) if is_changed else channel
    return _say_offer(console, args, new, find(new, offer.name, offer.version), is_changed=is_changed)


def _say_offer(
    console: Console, args: argparse.Namespace, channel: Channel, offer: Offer, *, is_changed: bool = True
) -> int:
    data = {"repo": str(args.repo), "channel": channel.channel, "serial": channel.serial, "changed": is_changed}
    as_before = "" if is_changed else "nothing changed, it is so already: "
    console.result({**data, **offer_dict(offer)}, f"{as_before}{channel.channel}: {offer_line(offer)}")
    return EXIT_DONE


def _channel(change: Change, name: str) -> Channel:
    return _known(_repository(change), name)


def _known(repository: Repository, name: str) -> Channel:
    names = sorted(repository.channels())
    if name not in names:
        there = f"there are {', '.join(names)}" if names else "nothing is published yet: edgeloop release publish"
        raise UsageError(f"no channel {name!r} in {repository.folder}", hint=there)
    return repository.channel(name)


def _repository(change: Change) -> Repository:
    assert change.before is not None
    return change.before


def _settled(missing: tuple[Missing, ...], console: Console, args: argparse.Namespace) -> None:
    if missing:
        console.note(f"not live yet, signatures are missing: {'; '.join(map(str, missing))}")
        console.note(f"  -> edgeloop release sign {args.repo} --key FILE")


def warn(console: Console, repository: Repository) -> None:
    """A line where something expires soon."""
    for role, left in expires_soon(repository, clock()).items():
        when = f"in {left.days} days" if left.days >= 0 else f"{-left.days} days ago: devices take nothing any more"
        console.note(f"warning: {role} expires {when} -> edgeloop release refresh {repository.folder}")


def _say_made(args: argparse.Namespace, console: Console, missing: tuple[Missing, ...]) -> None:
    _settled(missing, console, args)
    data = {"repo": str(args.repo), "live": not missing, "missing": [vars(each) for each in missing]}
    root = args.repo / "metadata" / "1.root.json"
    text = f"{args.repo}: made; devices trust it by {root}" if not missing else f"{args.repo}: prepared"
    console.result({**data, "root": str(root)}, text)


def _tags(given: list[str] | None) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(given or ()))
    for tag in tags:
        _check_name("--tag", tag)
    return tags


def _check_name(flag: str, name: str) -> None:
    from edgeloop.bundle.limits import NAME_PATTERN

    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{flag} {name!r}: letters, digits, '.', '_' and '-' only, at most 64")


def _days(given: list[str]) -> dict[str, int]:
    days = {}
    for text in given:
        role, _, count = text.partition("=")
        if not count.isdigit():
            raise UsageError(f"--days {text!r}", hint="for example --days timestamp=7")
        days[role] = int(count)
    return days


def _public_keys(files: list[Any]) -> list[Any]:
    from edgeloop.bundle.trust import read_public_keys

    return [key for file in files for key in read_public_keys(file)]


def _shown(keyring: Keyring) -> str:
    return ", ".join(key.fingerprint for key in keyring.keys.values())
