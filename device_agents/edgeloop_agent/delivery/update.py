"""What may come in, what runs next, whether it is well: the rules of an update, as functions of values. No I/O.

    offered --judge_offer--> on trial --judge_health--> committed
                 |                          |
              refused                  rolled back, and refused from then on

What runs is the version that is on trial, if there is one, else the committed one. A trial that is not committed after
TRIAL_STARTS starts of the agent ends in a rollback: whatever is new crashes the agent or the board before anybody can
tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

TRIAL_STARTS = 3
"""The start after the switch, and two more: a power cut during a trial is not the new version's fault."""
KEPT_VERSIONS = 3
"""The committed one among them."""
_TRIAL_HINT = "edgeloop-agent run settles it; edgeloop-agent rollback --trial ends it"


@dataclass(frozen=True, order=True)
class Version:
    """One version of something: its number and the SHA-256 (hex) of what was signed, which tells two apart that bear
    the same number."""

    number: int
    digest: str

    def __str__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Trial:
    """starts: of the agent since the switch. boot: id of the system's boot when it was switched to."""

    version: Version
    starts: int = 0


@dataclass(frozen=True)
class Standing:
    """Where a device stands with one thing that has versions.

    running: what the agent's link leads to, None where nothing was ever installed. committed: what it falls back to.
    highest: the highest number that was ever committed. failed: digest -> why that version was refused or rolled back.
    kept: all versions that are whole on the disk, the oldest first. well: digests of those that were committed here.
    """

    running: Version | None = None
    committed: Version | None = None
    trial: Trial | None = None
    highest: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    kept: Sequence[Version] = ()
    well: Collection[str] = ()


@dataclass(frozen=True)
class Offer:
    """What came in, verified: its version, the target it was made for, bytes it takes unpacked and as a file.

    may_go_back: somebody who may sign bundles has signed, for this very version, that it may follow a higher one.
    no_exception: why such an exception that it brings does not hold here; "" where it brings none, or one that holds.
    again: the operator asks for it although it failed here before.
    """

    version: Version
    target: str
    bytes: int
    may_go_back: bool = False
    no_exception: str = ""
    again: bool = False


@dataclass(frozen=True)
class Device:
    """What an offer has to fit. strangers: ids of targets whose bundles cannot run on this board.
    free_bytes: on the disk of the state folder; reserve_bytes of them stay free. other_trial: what else is on trial
    that this one could not be told apart from, should the agent fail: "agent version 5"; "" for nothing."""

    board: str
    strangers: Collection[str]
    free_bytes: int
    reserve_bytes: int = 16 << 20
    other_trial: str = ""


@dataclass(frozen=True)
class Admit:
    """It may be tried."""


@dataclass(frozen=True)
class IsThere:
    """It is what runs already, committed or on trial: nothing to do."""


@dataclass(frozen=True)
class Refuse:
    """reason: one line. hint: the next step."""

    reason: str
    hint: str = ""


def judge_offer(offer: Offer, standing: Standing, device: Device) -> Admit | IsThere | Refuse:
    """Whether a verified offer may be tried on this device."""
    number = offer.version.number
    if standing.running == offer.version:
        return IsThere()
    if standing.trial is not None:
        return Refuse(f"version {standing.trial.version} is on trial here", _TRIAL_HINT)
    if device.other_trial:
        return Refuse(f"{device.other_trial} is on trial here", _TRIAL_HINT)
    if offer.target in device.strangers:
        return Refuse(f"it was made for {offer.target}, this is {device.board}", "convert it for this target")
    if offer.version.digest in standing.failed and not offer.again:
        return Refuse(f"version {number} failed here before: {standing.failed[offer.version.digest]}", "--again tries")
    if number < standing.highest and not offer.may_go_back:
        but = f"; its exception {offer.no_exception}" if offer.no_exception else ""
        return Refuse(
            f"version {number} is older than {standing.highest}, which ran here{but}",
            "give it a higher version, or sign an exception: edgeloop bundle allow-older",
        )
    committed = standing.committed
    if committed is not None and number == committed.number and not offer.may_go_back:
        return Refuse(f"another version {number} runs here", "give the changed one a higher version")
    missing = offer.bytes + device.reserve_bytes - device.free_bytes
    if missing > 0:
        return Refuse(f"the disk has {missing / 1e6:.1f} MB too little for it", "make room, or keep fewer versions")
    return Admit()


@dataclass(frozen=True)
class Platform:
    """What an agent was made for, or what is here: "aarch64", (3, 11), (2, 36)."""

    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int]


def judge_platform(made_for: Platform, here: Platform) -> Admit | Refuse:
    """Whether an agent can be started here at all. Its libraries fit one machine and one Python, and a glibc from the
    one on that they were chosen for; (0, 0): any."""
    if made_for.machine != here.machine:
        return Refuse(f"it was made for {made_for.machine}, this is {here.machine}", "edgeloop bundle agent --target")
    if made_for.python != here.python:
        wanted, has = (".".join(map(str, each.python)) for each in (made_for, here))
        return Refuse(
            f"it was made for Python {wanted}, this device has {has}", f"edgeloop bundle agent --python {has}"
        )
    if made_for.glibc > here.glibc > (0, 0):
        wanted, has = (".".join(map(str, each.glibc)) for each in (made_for, here))
        return Refuse(f"it needs glibc {wanted}, this device has {has}", f"edgeloop bundle agent --glibc {has}")
    return Admit()


@dataclass(frozen=True)
class Budget:
    """What a version may take on this device; None: whatever it takes. p95_ms: of one inference."""

    p95_ms: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Rehearsal:
    """How it did in a process of its own, beside what runs: on the delegate that will run it, after its golden samples.

    failed: why it could not run at all, with a `hint` where there is one; "" otherwise.
    """

    delegate: str = ""
    n: int = 0
    p95_ms: float = 0.0
    memory_bytes: int = 0
    failed: str = ""
    hint: str = ""


def judge_rehearsal(rehearsal: Rehearsal, budget: Budget) -> Admit | Refuse:
    """Whether it may be switched to."""
    if rehearsal.failed:
        return Refuse(rehearsal.failed, rehearsal.hint)
    on = f"on {rehearsal.delegate} (n = {rehearsal.n})"
    if budget.p95_ms is not None and rehearsal.p95_ms > budget.p95_ms:
        return Refuse(f"too slow here: p95 {rehearsal.p95_ms:.3g} ms {on}, the budget is {budget.p95_ms:g} ms")
    if budget.memory_bytes is not None and rehearsal.memory_bytes > budget.memory_bytes:
        used, limit = (count / 1e6 for count in (rehearsal.memory_bytes, budget.memory_bytes))
        return Refuse(f"too large here: {used:.0f} MB {on}, the budget is {limit:.0f} MB")
    return Admit()


@dataclass(frozen=True)
class Window:
    """How long a new version is watched before it counts: both must be reached. most_s: by then it must have been."""

    seconds: float = 60.0
    inferences: int = 10
    most_s: float = 600.0


@dataclass(frozen=True)
class Health:
    """What the agent saw of the new version since the switch: inferences, frames that failed, worker faults held
    against it, p95 of all inferences (0.0 without any), whether it runs at all now."""

    seconds: float
    inferences: int
    errors: int
    faults: int
    p95_ms: float
    last_fault: str = ""


@dataclass(frozen=True)
class Wait:
    """Not known yet."""


@dataclass(frozen=True)
class Commit:
    """It is well."""


@dataclass(frozen=True)
class RollBack:
    """reason: one line."""

    reason: str


def judge_health(health: Health, window: Window, budget: Budget) -> Wait | Commit | RollBack:
    """Of a version on trial."""
    if health.faults:
        return RollBack(f"its worker failed: {health.last_fault or 'no reason known'}")
    enough = health.inferences >= window.inferences
    if enough and budget.p95_ms is not None and health.p95_ms > budget.p95_ms:
        return RollBack(
            f"too slow while it ran: p95 {health.p95_ms:.3g} ms (n = {health.inferences}), "
            f"the budget is {budget.p95_ms:g} ms"
        )
    if health.errors > health.inferences and health.errors >= window.inferences:
        return RollBack(f"{health.errors} frames failed, {health.inferences} did not")
    if enough and health.seconds >= window.seconds:
        return Commit()
    if health.seconds >= window.most_s:
        return RollBack(f"{health.inferences} inferences in {health.seconds:.0f} s: no sign that it works")
    return Wait()


@dataclass(frozen=True)
class Keep:
    """All is as it should be."""


@dataclass(frozen=True)
class Begin:
    """What runs is on trial: count this start."""


@dataclass(frozen=True)
class Settle:
    """The record lags behind the links, as after a power cut: write down that no trial is going on."""


@dataclass(frozen=True)
class Follow:
    """The link lags behind what is committed, as after a power cut in a rollback: lead it there."""


def at_start(standing: Standing) -> Keep | Begin | Settle | Follow | RollBack:
    """What the agent does before it runs anything. Links are believed before the record: they were switched at once.

    Nothing can run where there is nothing to go back to or to follow.
    """
    if standing.running == standing.committed:
        return Keep() if standing.trial is None else Settle()
    trial = standing.trial
    if trial is None or trial.version != standing.running:
        return Follow()
    if trial.starts >= TRIAL_STARTS:
        return RollBack(f"the agent was started {trial.starts} times with it, and it never ran long enough to count")
    return Begin()


def to_remove(standing: Standing, keep: int = KEPT_VERSIONS) -> tuple[Version, ...]:
    """Versions that make room: the oldest beyond `keep`, never what runs and never what it falls back to."""
    needed = {standing.running, standing.committed, standing.trial.version if standing.trial else None}
    others = [version for version in standing.kept if version not in needed]
    spare = max(0, keep - len(needed - {None}))
    return tuple(others[: len(others) - spare] if spare else others)


def back_to(standing: Standing) -> Version | Refuse:
    """What `rollback` by hand leads to: the newest kept version that was committed before and is not what runs."""
    former = [v for v in standing.kept if v != standing.running and v.digest in standing.well]
    if standing.running != standing.committed and standing.committed is not None:
        return standing.committed
    if not former:
        return Refuse("no other version that is kept here ever ran well")
    return former[-1]
