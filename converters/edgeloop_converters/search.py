"""Trials of a strategy: each smaller than the one before, judged on a validation part of the data, until one misses.

The last one that holds is kept. One more is tried halfway between it and the first that missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeloop.bundle import Metrics
from edgeloop_converters.gate import missed_quality
from edgeloop_converters.goals import Goals

T = TypeVar("T")

_HALFWAY_FROM = 0.06
"""Difference of shares below which nothing lies between two trials that a tile would show."""


@dataclass(frozen=True)
class Trial(Generic[T]):
    """share: of the cost that was allowed. made: what came of it. missed: why it is not within the budget."""

    share: float
    made: T
    metrics: Metrics
    bytes: int
    missed: tuple[str, ...]

    def line(self) -> str:
        """One line for people."""
        this, whole = self.metrics.this or 0.0, self.metrics.float_ or 0.0
        agreement = "" if self.metrics.agreement is None else f", agreement {self.metrics.agreement:.1%}"
        verdict = "misses the budget" if self.missed else "within the budget"
        return (
            f"trial at {self.share:.0%} of the cost: {self.bytes / 1000:.1f} kB, {self.metrics.metric} {this:.2%} "
            f"(float {whole:.2%}){agreement} on {self.metrics.n} validation samples, {verdict}"
        )


def run_trials(
    shares: tuple[float, ...],
    budget: Goals,
    make: Callable[[float], T | None],
    look: Callable[[T], tuple[Metrics, int]],
    note: Callable[[str], None],
) -> tuple[Trial[T], ...]:
    """All trials in the order in which they were made. make: the model at a share of the cost, None where it cannot go
    so low. look: (metrics on the validation samples, bytes of the file).
    """
    trials: list[Trial[T]] = []

    def attempt(share: float) -> Trial[T] | None:
        made = make(share)
        if made is None:
            return None
        metrics, size = look(made)
        trial = Trial(share, made, metrics, size, missed_quality(budget, metrics))
        trials.append(trial)
        note(trial.line())
        return trial

    held = 1.0
    for share in shares:
        trial = attempt(share)
        if trial is None or trial.missed:
            if held - share > _HALFWAY_FROM:
                attempt(round((held + share) / 2, 3))
            break
        held = share
    return tuple(trials)


def best(trials: tuple[Trial[T], ...]) -> Trial[T] | None:
    """The smallest that is within the budget."""
    return min((t for t in trials if not t.missed), key=lambda t: t.share, default=None)


def how_close(trials: tuple[Trial[T], ...]) -> str:
    """Where none is: the one that came closest, for people."""
    if not trials:
        return "no smaller model could be made"
    closest = max(trials, key=lambda t: t.metrics.this or 0.0)
    return f"no smaller model is within the budget; the closest ({closest.share:.0%} of the cost): {closest.missed[0]}"
