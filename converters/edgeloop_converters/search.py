"""Trials of a strategy, in stages: smaller and smaller models without training, then with it from where that misses.

The last one that holds is kept, after one more look halfway to the first that missed. What it chooses by are samples of
which nothing was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeloop.bundle import Metrics
from edgeloop_converters.gate import missed_quality
from edgeloop_converters.goals import Goals

T = TypeVar("T")

_HALFWAY_FROM = 0.06
"""Difference of shares below which nothing lies between two trials that a tile would show."""


@dataclass(frozen=True)
class Look:
    """What was seen of a trial's file. cost: what stays of it as a share of the model's own, None where not known;
    value: the same in the cost's unit. seconds: that making and judging it took."""

    metrics: Metrics
    bytes: int
    cost: float | None = None
    seconds: float = 0.0
    value: float | None = None


@dataclass(frozen=True)
class Trial(Generic[T]):
    """share: of the cost that was allowed. made: what came of it. missed: why its answers are not within the budget.
    too_large: why its file is not."""

    share: float
    trained: bool
    made: T
    look: Look
    missed: tuple[str, ...]
    too_large: str = ""

    @property
    def metrics(self) -> Metrics:
        return self.look.metrics

    @property
    def bytes(self) -> int:
        return self.look.bytes

    @property
    def quality(self) -> float:
        """By which trials are compared: the metric, or agreement where there is none."""
        found = self.metrics.this if self.metrics.this is not None else self.metrics.agreement
        return found or 0.0

    def line(self) -> str:
        """One line for people."""
        this, whole = self.metrics.this or 0.0, self.metrics.float_ or 0.0
        agreement = "" if self.metrics.agreement is None else f", agreement {self.metrics.agreement:.1%}"
        verdict = "misses the budget" if self.missed else "too large" if self.too_large else "within the budget"
        took = f" ({self.look.seconds:.0f} s)" if self.look.seconds >= 1 else ""
        cost = "" if self.look.cost is None else f" ({self.look.cost:.0%} reached)"
        return (
            f"trial at {self.share:.0%} of the cost{cost}{', trained' if self.trained else ''}: "
            f"{self.bytes / 1000:.1f} kB, {self.metrics.metric} {this:.2%} (float {whole:.2%}){agreement} on "
            f"{self.metrics.n} validation samples, {verdict}{took}"
        )


class Search(Generic[T]):
    """`run` tries; `trials` has all in the order in which they were made.

    make: the model at a share of the cost, with training or without; None where it cannot go so low. time_left: seconds
    until no trial is begun any more.
    """

    def __init__(
        self,
        budget: Goals,
        make: Callable[[float, bool], T | None],
        look: Callable[[T], Look],
        note: Callable[[str], None],
        time_left: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self._budget, self._make, self._look, self._note, self._time_left = budget, make, look, note, time_left
        self.trials: list[Trial[T]] = []
        self._is_over = False

    def run(self, shares: Sequence[float], *, trains: bool) -> tuple[Trial[T], ...]:
        """shares: falling. trains: whether training may bring back what is lost."""
        held, trained = 1.0, False
        for share in shares:
            trial = self._attempt(share, trained)
            if trains and not trained and trial is not None and trial.missed:
                trained = True
                trial = self._attempt(share, trained)
            if trial is None or trial.missed:
                if held - share > _HALFWAY_FROM:
                    self._attempt(round((held + share) / 2, 3), trained)
                break
            held = share
        chosen = best(self.trials)
        if trains and chosen is not None and not chosen.trained:
            self._attempt(chosen.share, True)
        return tuple(self.trials)

    def _attempt(self, share: float, trained: bool) -> Trial[T] | None:
        if self._is_over:
            return None
        if self._time_left() <= 0:
            self._is_over = True
            self._note("the time is up: no more trials")
            return None
        made = self._make(share, trained)
        if made is None:
            return None
        look = self._look(made)
        limit = self._budget.max_bytes
        large = "" if limit is None or look.bytes <= limit else f"the file has {look.bytes} bytes, more than {limit}"
        trial = Trial(share, trained, made, look, missed_quality(self._budget, look.metrics), large)
        self.trials.append(trial)
        self._note(trial.line())
        return trial


def best(trials: Sequence[Trial[T]]) -> Trial[T] | None:
    """The smallest that is within the budget; of two of one size, the better one."""
    holding = [t for t in trials if not t.missed and not t.too_large]
    return min(holding, key=lambda t: (t.share, -t.quality), default=None)


def front(trials: Sequence[Trial[T]]) -> tuple[Trial[T], ...]:
    """Those that no other beats: as good and smaller, or better and as small. The largest first."""

    def beats(a: Trial[T], b: Trial[T]) -> bool:
        as_good = a.quality >= b.quality and a.bytes <= b.bytes
        return as_good and (a.quality > b.quality or a.bytes < b.bytes)

    kept = (t for t in trials if not any(beats(other, t) for other in trials))
    return tuple(sorted(kept, key=lambda t: -t.bytes))


def how_close(trials: Sequence[Trial[T]], out_of_time: bool = False) -> str:
    """Where none is within the budget: which goal was missed by how much by the one that came closest, for people."""
    if not trials and out_of_time:
        return "no trial came to its end in that time: nothing is known of smaller models -> more --minutes"
    if not trials:
        return "no smaller model could be made"
    good = [t for t in trials if not t.missed]
    if good:
        closest = min(good, key=lambda t: t.bytes)
        return (
            f"no smaller model is within the budget; the closest ({closest.share:.0%} of the cost): {closest.too_large}"
        )
    closest = max(trials, key=lambda t: t.quality)
    return f"no smaller model is within the budget; the closest ({closest.share:.0%} of the cost): {closest.missed[0]}"
