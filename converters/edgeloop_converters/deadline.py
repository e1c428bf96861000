"""The time that a search for a smaller model may take, kept in the middle of its work, too."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgeloop.errors import GoalNotMetError
from edgeloop.progress import Advance, Progress


class OutOfTimeError(GoalNotMetError):
    """What was being made was given up: nobody waits for it any more."""


class Deadline:
    """So many minutes from now on; None: as long as it takes. `reserve_s` is what comes behind: whoever works until
    the deadline ends that much earlier."""

    def __init__(self, minutes: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = math.inf if minutes is None else clock() + 60 * minutes
        self.reserve_s = 0.0

    @property
    def left_s(self) -> float:
        """Below 0 when it is over."""
        return self._until - self.reserve_s - self._clock()

    @property
    def is_over(self) -> bool:
        return self.left_s <= 0

    def watch(self, progress: Progress) -> Progress:
        """The same, but who advances after the deadline gets an OutOfTimeError: for work without a half result."""
        return progress if self._until == math.inf else _Watched(progress, self)


class _Watched:
    def __init__(self, progress: Progress, deadline: Deadline) -> None:
        self._progress, self._deadline = progress, deadline

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Advance]:
        with self._progress.step(label, total) as advance:

            def checked(count: int) -> None:
                if self._deadline.is_over:
                    raise OutOfTimeError(f"the time is up in the middle of {label!r}", hint="more --minutes")
                advance(count)

            checked(0)
            yield checked

    def note(self, text: str) -> None:
        self._progress.note(text)
