"""What is measured next and what is best: successive halving over medians of interleaved slices. Pure.

Source: Jamieson and Talwalkar 2016, Non-stochastic Best Arm Identification (arXiv:1502.07943): a round gives all that
are left the same time and drops the worse half, so most of the time goes to those that are hard to tell apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

INDISTINCT = 0.03
"""Candidates this near the best count as equal: the one that takes fewer threads is then the better neighbour."""
UNSTEADY = 1.25
"""For latency: who is slower than the best on average by more than this is out, however good its median looks. Threads
that wait for a core somebody else has make a fine median and a long tail."""
SLICES = 4
"""So often the candidates take turns in a round, forth and back: a clock that drifts hits all of them alike."""


@dataclass(frozen=True)
class Candidate:
    """One way to run the bundle. `order`: as the bundle lists them; the first is what runs without tuning."""

    variant: str
    delegate: str
    threads: int
    order: int = 0

    def __str__(self) -> str:
        return f"{self.variant} on {self.delegate}, {self.threads} thread" + ("" if self.threads == 1 else "s")


@dataclass
class Measured:
    """What is known of a candidate: times of its inferences, and what its process holds."""

    candidate: Candidate
    times_ns: list[int] = field(default_factory=list)
    rss_bytes: int = 0
    load_ms: float = 0.0
    ran: str = ""
    failed: str = ""

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.times_ns) / 1e6 if self.times_ns else math.inf

    @property
    def mean_ms(self) -> float:
        return statistics.fmean(self.times_ns) / 1e6 if self.times_ns else math.inf

    def score(self, objective: str) -> float:
        """Lower is better: the median time for latency, the mean (its outliers, too) for throughput, bytes."""
        if self.failed:
            return math.inf
        scores = {"latency": self.p50_ms, "throughput": self.mean_ms, "memory": float(self.rss_bytes or math.inf)}
        return scores[objective]


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4 ... and all cores."""
    powers = [1 << i for i in range(max(1, cores).bit_length()) if 1 << i <= cores]
    return tuple(dict.fromkeys([*powers, max(1, cores)]))


def candidates(
    variants: Sequence[tuple[str, Sequence[str]]], threads: Sequence[int], is_host: Iterable[str]
) -> tuple[Candidate, ...]:
    """Every variant on every delegate it may run on. `is_host`: delegates whose work threads share; for others, which
    have a chip of their own, one thread is tried."""
    host = frozenset(is_host)
    found = [
        (variant, delegate, n)
        for variant, delegates in variants
        for delegate in delegates
        for n in (threads if delegate in host else threads[:1])
    ]
    return tuple(Candidate(*each, order=i) for i, each in enumerate(dict.fromkeys(found)))


def rounds(count: int) -> int:
    """How many rounds halve `count` candidates down to one or two; the last one is for those."""
    return max(1, math.ceil(math.log2(max(2, count))))


def slice_s(budget_s: float, count: int, left: int) -> float:
    """How long each slice of each candidate is in a round with `left` of `count` candidates."""
    return budget_s / rounds(count) / (left * SLICES)


def turns(left: Sequence[Measured]) -> Iterable[Measured]:
    """The order of a round's slices."""
    for i in range(SLICES):
        yield from left if i % 2 == 0 else reversed(left)


def better_half(left: Sequence[Measured], objective: str) -> list[Measured]:
    """Those that go on: the better half, at least one; what failed never does."""
    standing = sorted((m for m in left if not m.failed), key=lambda m: (m.score(objective), m.candidate.order))
    return standing[: max(1, (len(standing) + 1) // 2)]


def best(measured: Iterable[Measured], objective: str) -> Measured | None:
    """Of those as good as the best (within INDISTINCT) the one with the fewest threads, then the bundle's order."""
    known = [m for m in measured if math.isfinite(m.score(objective))]
    if not known:
        return None
    if objective == "latency":
        mean_ms = min(m.mean_ms for m in known)
        known = [m for m in known if m.mean_ms <= UNSTEADY * mean_ms]
    limit = min(m.score(objective) for m in known) * (1 + INDISTINCT)
    equal = [m for m in known if m.score(objective) <= limit]
    return min(equal, key=lambda m: (m.candidate.threads, m.candidate.order))
