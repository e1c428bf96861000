"""What the ingest tells the fleet, until the fleet's thread takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from edgeloop.telemetry.report import Report
from edgeloop.telemetry.wire.together import LatencySums

MAX_REPORTS = 50_000
MAX_SUMS = 5000

_T = TypeVar("_T")

Arrival = tuple[float, bool, Report]
"""(when it came in, whether its latency comes in a sum, the report)."""


class Inbox:
    """Bounded: the oldest go where nobody takes them. Safe between threads that put and one that takes."""

    def __init__(self) -> None:
        self._reports: deque[Arrival] = deque(maxlen=MAX_REPORTS)
        self._sums: deque[tuple[float, LatencySums]] = deque(maxlen=MAX_SUMS)

    def put(self, reports: Sequence[Report], received_s: float, latency: LatencySums | None) -> None:
        summed = latency is not None
        self._reports.extend((received_s, summed, report) for report in reports)
        if latency:
            self._sums.append((received_s, latency))

    def reports(self) -> list[Arrival]:
        """All that came, oldest first; they are gone then."""
        return _drained(self._reports)

    def sums(self) -> list[tuple[float, LatencySums]]:
        """(when they came in, latency of reports of that time); they are gone then."""
        return _drained(self._sums)


def _drained(queue: deque[_T]) -> list[_T]:
    """All that was in it when this began; others may put more in meanwhile."""
    return [queue.popleft() for _ in range(len(queue))]
