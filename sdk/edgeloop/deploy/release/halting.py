"""When an offer is stopped without being asked: too many of its devices went back or refused it, or it is too slow on
them. The rule is pure; `halt_bad` does what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.keyring import Keyring, shown
from edgeloop.deploy.release.repository import Repository, expires_soon, locked
from edgeloop.deploy.release.roles import GROUPS, ONLINE, TIMESTAMP
from edgeloop.deploy.release.rollout import EventLog, Progress, read_progress
from edgeloop.deploy.release.steering import stopped
from edgeloop.errors import UsageError
from edgeloop.release.channel import ACTIVE, HALTED
from edgeloop.release.events import COMMITTED, REFUSED, ROLLED_BACK, TRIAL

if TYPE_CHECKING:
    from edgeloop.telemetry.reading import Reader

_BAD = (ROLLED_BACK, REFUSED)
_TRIED = (TRIAL, COMMITTED, *_BAD)


@dataclass(frozen=True)
class Limits:
    """tolerated: share (0..1) of the devices that tried a version which may go back or refuse it; of a few devices that
    is none. least_n: inferences before a p95 counts."""

    tolerated: float = 0.02
    least_n: int = 100


@dataclass(frozen=True)
class Halt:
    """An offer that is to be stopped, and the line that says why."""

    channel: str
    name: str
    version: int
    reason: str


def judge(progress: Progress, limits: Limits) -> str:
    """Why an offer is to be stopped, "" where it may go on."""
    offer = progress.offer
    if offer.state != ACTIVE:
        return ""
    said = [device for device in progress.devices if device.time_s >= offer.since_s and device.state in _TRIED]
    bad = [device for device in said if device.state in _BAD]
    if len(bad) > limits.tolerated * len(said):
        first = bad[0]
        return (
            f"{len(bad)} of {len(said)} devices went back or refused it: {first.device} {first.state}: {first.reason}"
        )
    is_slow = offer.p95_ms is not None and progress.p95_ms is not None and progress.p95_ms > offer.p95_ms
    if is_slow and progress.n >= limits.least_n:
        return f"p95 {progress.p95_ms:.3g} ms (n = {progress.n}), the budget is {offer.p95_ms:g} ms"
    return ""


def to_halt(progress: Sequence[Progress], limits: Limits) -> list[Halt]:
    """Those of these offers that are to be stopped."""
    judged = [(p, judge(p, limits)) for p in progress]
    return [Halt(p.channel, p.offer.name, p.offer.version, reason) for p, reason in judged if reason]


def halt_bad(folder: Path, halts: Sequence[Halt], keyring: Keyring, now: datetime) -> list[Halt]:
    """Stop them; those that were still going on. Also signs again what the online keys sign, where that expires soon.

    Raises as `locked` and `Change.commit`.
    """
    with locked(folder):
        repository = Repository.load(folder)
        change = Change.of(repository, keyring, now)
        done = []
        for name in sorted({halt.channel for halt in halts}):
            channel = before = repository.channel(name)
            for halt in (each for each in halts if each.channel == name):
                offers = [o for o in channel.offers if (o.name, o.version) == (halt.name, halt.version)]
                if offers and offers[0].state == ACTIVE:
                    channel = stopped(channel, offers[0], HALTED, halt.reason)
                    done.append(halt)
            if channel != before:
                change.set_channel(channel)
        online = set(GROUPS[ONLINE])
        if done or online & expires_soon(repository, now).keys():
            change.changed |= online
            change.commit()
    return done


def check_can_halt(repository: Repository, keyring: Keyring) -> None:
    """Raises UsageError where the online keys are not at hand."""
    role = repository.root.get_delegated_role(TIMESTAMP)
    if len(set(role.keyids) & keyring.keys.keys()) < role.threshold:
        raise UsageError(
            f"to halt in {repository.folder} a key of the online group is needed",
            hint="--key FILE of " + ", ".join(shown(repository.root.get_key(keyid)) for keyid in role.keyids),
        )


def watch_once(
    folder: Path, reader: Reader, keyring: Keyring, now: datetime, limits: Limits, log: EventLog | None = None
) -> list[Halt]:
    """Look at what telemetry says and stop what is bad; what was stopped now. log: of the looks before.

    Raises as `reader` and `halt_bad`.
    """
    repository = Repository.load(folder)
    halts = to_halt(read_progress(reader, repository.channels().values(), log, to_judge=True), limits)
    is_stale = set(GROUPS[ONLINE]) & expires_soon(repository, now).keys()
    return halt_bad(folder, halts, keyring, now) if halts or is_stale else []
