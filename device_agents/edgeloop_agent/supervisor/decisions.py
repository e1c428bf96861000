"""What the supervisor decides when a worker fails: pure functions over frozen values, no processes and no clock.

    fault of the delegate    (it could not be loaded, failed its self-test, crashed or hung)  -> the next of the order
    any other fault          (killed from outside, out of memory, source gone)                -> the same one again

A delegate that is left for another is out for `retry_after_s`, twice as long each time after; then it is tried again
where it comes before the one in use. The last one that is not out stays until it failed `faults_until_quarantine`
times; then those that are out and failed less often have their turn early. When all are exhausted: give up if not one
inference ever succeeded, else keep trying the one that worked.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass, replace
from enum import Enum


class Blame(Enum):
    """Whose fault it was, which decides where the next worker starts."""

    START = "start"  # the delegate could not be loaded or its golden outputs were wrong: trying again changes nothing
    RUN = "run"  # the worker crashed or hung while it used the delegate
    OTHER = "other"  # the worker failed, perhaps by the delegate's fault: the same one again, not for ever
    OUTSIDE = "outside"  # killed by somebody, or the source is lost: nothing is held against the delegate


# SIGKILL comes from outside (the kernel when memory runs out, an operator); so do SIGTERM, SIGINT and SIGHUP.
_SIGNALS_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


_INVOKES_TO_KNOW = 50
_INVOKES_TO_KNOW_WELL = 200
_ASLEEP_S = 0.4  # and some 0.3 s for the next worker: results again within a second
_TIMES_THE_SLOWEST = 20.0
RECHECK_EVERY_S = 60.0
"""A worker that runs is tested with one golden sample this often."""


@dataclass(frozen=True)
class Fault:
    """One failure of a worker. `detail`: one line for people; `ran_s`: seconds since it was ready (0: never was);
    `hint`: the next step, where it is known."""

    blame: Blame
    detail: str
    ran_s: float = 0.0
    hint: str = ""


@dataclass(frozen=True)
class Policy:
    """Times in seconds. A worker that ran `stable_after_s` clears what was held against its delegate."""

    backoff_first_s: float = 0.5
    backoff_max_s: float = 60.0
    faults_until_quarantine: int = 3
    retry_after_s: float = 600.0
    retry_max_s: float = 86_400.0
    stable_after_s: float = 60.0
    heartbeat_timeout_s: float = 10.0
    frame_timeout_s: float = 30.0
    invoke_timeout_s: float = 3.0
    load_timeout_s: float = 120.0
    memory_limit_bytes: int | None = None


@dataclass(frozen=True)
class Standing:
    """How the delegates stand. All tuples are in the fallback order; `current` is the index of the one in use.

    times_out: how often each was quarantined since it last ran well; again_at_s: until when, on the caller's clock.
    """

    delegates: tuple[str, ...]
    faults: tuple[int, ...]
    quarantined: tuple[bool, ...]
    times_out: tuple[int, ...]
    again_at_s: tuple[float, ...]
    current: int = 0
    streak: int = 0
    proven: int | None = None

    @staticmethod
    def start(delegates: tuple[str, ...]) -> Standing:
        none = (0,) * len(delegates)
        return Standing(delegates, none, (False,) * len(delegates), none, none)

    @property
    def delegate(self) -> str:
        return self.delegates[self.current]

    def with_success(self) -> Standing:
        """An inference succeeded on the current delegate."""
        return self if self.proven == self.current else replace(self, proven=self.current)


@dataclass(frozen=True)
class Restart:
    """Start a worker on `standing.delegate` after `delay_s`; `kind` and `detail` make the event of the report."""

    delay_s: float
    kind: str  # "fallback" | "restart"
    detail: str
    quarantined: str = ""  # the delegate that is out from now on, if one is
    again_in_s: float = 0.0  # for so long


@dataclass(frozen=True)
class GiveUp:
    """No delegate is left and nothing ever worked."""

    detail: str
    hint: str = ""


def after_fault(
    standing: Standing, policy: Policy, fault: Fault, now_s: float = 0.0
) -> tuple[Standing, Restart | GiveUp]:
    """The standing after a fault of the current worker, and what to do now. now_s: on any clock that only grows."""
    at = standing.current
    why = fault.detail.removeprefix(f"delegate {standing.delegates[at]}: ")  # which is said before it
    if fault.ran_s >= policy.stable_after_s:
        standing = replace(
            standing, faults=_set(standing.faults, at, 0), times_out=_set(standing.times_out, at, 0), streak=0
        )
    limit = policy.faults_until_quarantine
    count = limit if fault.blame is Blame.START else standing.faults[at] + (fault.blame is not Blame.OUTSIDE)
    is_last = all(out for i, out in enumerate(standing.quarantined) if i != at)
    out = count >= limit or (fault.blame is Blame.RUN and not is_last)
    newly_out = out and not standing.quarantined[at]
    times_out = standing.times_out[at] + newly_out
    again_in_s = min(policy.retry_max_s, policy.retry_after_s * 2.0 ** min(times_out - 1, 30)) if newly_out else 0.0
    standing = replace(
        standing,
        faults=_set(standing.faults, at, count),
        quarantined=_set(standing.quarantined, at, out or standing.quarantined[at]),
        times_out=_set(standing.times_out, at, times_out),
        again_at_s=_set(standing.again_at_s, at, now_s + again_in_s) if newly_out else standing.again_at_s,
        streak=standing.streak + 1,
    )
    to = _next_delegate(standing, limit, stay=fault.blame in (Blame.OTHER, Blame.OUTSIDE))
    if to is None and standing.proven is None:
        return standing, GiveUp(f"no delegate left: {standing.delegates[at]}: {why}", fault.hint)
    target = standing.proven if to is None else to
    assert target is not None
    moved = target != at
    fresh = moved and standing.faults[target] == 0
    delay_s = 0.0 if fresh else min(policy.backoff_max_s, policy.backoff_first_s * 2.0 ** min(standing.streak - 1, 30))
    was, now = standing.delegates[at], standing.delegates[target]
    detail = f"{was} -> {now}: {why}" if moved else f"{was}: {why}"
    decision = Restart(delay_s, "fallback" if moved else "restart", detail, was if newly_out else "", again_in_s)
    if to is not None:
        standing = replace(standing, quarantined=_set(standing.quarantined, target, False))
    return replace(standing, current=target), decision


def try_again(standing: Standing, policy: Policy, now_s: float) -> Standing | None:
    """The standing that goes back to the first delegate before the current one which has been out for long enough.

    One more fault, and it is out again. None: there is none.
    """
    for i in range(standing.current):
        if standing.quarantined[i] and now_s >= standing.again_at_s[i]:
            return replace(
                standing,
                faults=_set(standing.faults, i, policy.faults_until_quarantine - 1),
                quarantined=_set(standing.quarantined, i, False),
                current=i,
                streak=0,
            )
    return None


def invoke_limit_s(
    policy: Policy, invokes: int, slowest_s: float, *, is_library: bool, is_asleep: bool = False
) -> float:
    """How long an invoke may take. A driver that hangs is found by what it took before; the runtime's own kernels do
    not hang, they wait for a busy board. slowest_s: of so many invokes of this worker. is_asleep: no thread of it
    computes, waits for the CPU or for a disk, so it is not the board that is slow: then a driver that is known well
    is not waited for that long.
    """
    if not is_library or invokes < _INVOKES_TO_KNOW:
        return math.inf  # the whole frame has its limit
    patience_s = policy.invoke_timeout_s
    if is_asleep and invokes >= _INVOKES_TO_KNOW_WELL:
        patience_s = min(patience_s, _ASLEEP_S)
    return max(patience_s, _TIMES_THE_SLOWEST * slowest_s)


def overdue(
    policy: Policy,
    *,
    ready: bool,
    since_start_s: float,
    since_message_s: float,
    busy_s: float,
    telling_s: float = 0.0,
    invoking_s: float = 0.0,
    invoke_limit_s: float = math.inf,
    memory_bytes: int = 0,
) -> Fault | None:
    """The watchdog: a fault when the worker takes too much memory, is silent, or has been at one frame, for too long.

    Ages in seconds; memory_bytes: what it takes of the board's memory, 0 where nobody looked.
    """
    limit = policy.memory_limit_bytes
    if ready and limit is not None and memory_bytes > limit:  # what it takes to open its model `too_large` judges
        return Fault(Blame.RUN, f"took {memory_bytes / 2**20:.0f} MiB, more than its limit of {limit / 2**20:g} MiB")
    if not ready:
        if since_start_s > policy.load_timeout_s:
            return Fault(Blame.RUN, f"not ready {policy.load_timeout_s:g} s after its start")
        return None
    if since_message_s > policy.heartbeat_timeout_s:
        blame, where = (Blame.OUTSIDE, " while a sink had a result") if telling_s else (Blame.RUN, "")
        return Fault(blame, f"hung: no heartbeat for {policy.heartbeat_timeout_s:g} s{where}")
    if invoking_s > invoke_limit_s:
        return Fault(Blame.RUN, f"hung: an invoke took more than {invoke_limit_s:g} s")
    if telling_s > policy.frame_timeout_s:
        return Fault(Blame.OUTSIDE, f"hung: a sink took more than {policy.frame_timeout_s:g} s for one result")
    if busy_s > policy.frame_timeout_s:
        return Fault(Blame.RUN, f"hung: one frame took more than {policy.frame_timeout_s:g} s")
    return None


def too_large(policy: Policy, memory_bytes: int) -> Fault | None:
    """The limit that no worker can keep: this one has just opened its model, and takes more already."""
    limit = policy.memory_limit_bytes
    if limit is None or memory_bytes <= limit:
        return None
    takes_mib = memory_bytes / 2**20
    return Fault(
        Blame.START,
        f"takes {takes_mib:.0f} MiB once its model is open, and memory_limit is {limit / 2**20:g} MiB",
        hint=f"memory_limit = {math.ceil(1.5 * takes_mib)} leaves room to work, or a smaller variant",
    )


def describe_exit(returncode: int, last_words: str = "", *, was_telling: bool = False) -> Fault:
    """What a worker's death without a word means. `returncode` as subprocess gives it: negative is a signal.

    was_telling: a sink had the result; whatever it died of then is not the delegate's doing.
    """
    fault = _describe_exit(returncode, f": {last_words}" if last_words else "")
    return Fault(Blame.OUTSIDE, f"{fault.detail} while a sink had its result") if was_telling else fault


def _describe_exit(returncode: int, tail: str) -> Fault:
    # A shell or an emulator in between reports a signal as 128 + its number.
    number = -returncode if returncode < 0 else returncode - 128
    try:
        name = signal.Signals(number)
    except ValueError:
        return Fault(Blame.OTHER, f"worker exited with code {returncode}{tail}")
    if name in _SIGNALS_FROM_OUTSIDE:
        return Fault(Blame.OUTSIDE, f"worker was killed by {name.name}")
    return Fault(Blame.RUN, f"worker died of {name.name}{tail}")


def _next_delegate(standing: Standing, limit: int, *, stay: bool) -> int | None:
    """The current one if `stay`, else the next usable one of the order, else an earlier one, else the current one.

    Usable is what is not out; if all are, what failed less than `limit` times.
    """
    at, n = standing.current, len(standing.delegates)
    order = [*range(at + 1, n), *range(at)]
    candidates = [at, *order] if stay else [*order, at]
    usable = [i for i in candidates if not standing.quarantined[i]]
    return next(iter(usable or [i for i in candidates if standing.faults[i] < limit]), None)


def _set(values: tuple[object, ...], index: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:index], value, *values[index + 1 :])
