"""Latency over a device's last reports: bytes are put aside as they come, and merged when somebody looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from edgeloop.telemetry.histogram import Histogram


class _Part:
    __slots__ = ("_p95_ms", "max_ns", "min_ns", "wire")

    def __init__(self, wire: bytes, min_ns: int, max_ns: int) -> None:
        self.wire, self.min_ns, self.max_ns = wire, min_ns, max_ns
        self._p95_ms: float | None = None

    def p95_ms(self) -> float:
        if self._p95_ms is None:  # only of the rows that somebody has before them
            self._p95_ms = Histogram.from_wire(self.wire).percentile(95)
        return self._p95_ms


class LatencyWindow:
    """The last `size` histograms, merged exactly. Kept as bytes, since a fleet has a few hundred thousand of them.

    A look costs what came since the last one (those are added, as many of the oldest taken away), `size` at most.
    """

    __slots__ = ("_merged", "_parts", "_waiting", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._waiting: deque[bytes] = deque(maxlen=size)
        self._merged = Histogram()
        self._parts: deque[_Part] = deque()

    def add(self, wires: Iterable[bytes]) -> None:
        """`Histogram.to_wire` of each, newest last; empty ones do not count."""
        self._waiting.extend(filter(None, wires))

    @property
    def histogram(self) -> Histogram:
        """All of them merged; not to be changed."""
        self.settle()
        return self._merged

    @property
    def trend_p95_ms(self) -> tuple[float, ...]:
        """The p95 of each, oldest first."""
        self.settle()
        return tuple(part.p95_ms() for part in self._parts)

    def settle(self) -> None:
        """Fold what waits: the next look then costs nothing."""
        if not self._waiting:
            return
        parts = self._parts
        too_many = len(parts) + len(self._waiting) - self.size
        if too_many >= len(parts):
            self._merged = Histogram()
            parts.clear()
        else:
            for _ in range(too_many):
                _put(self._merged, Histogram.from_wire(parts.popleft().wire), -1)
        for wire in self._waiting:
            histogram = Histogram.from_wire(wire)
            parts.append(_Part(wire, histogram.min_ns, histogram.max_ns))
            _put(self._merged, histogram, 1)
        self._waiting.clear()
        self._merged.min_ns = min(part.min_ns for part in parts)
        self._merged.max_ns = max(part.max_ns for part in parts)


def _put(merged: Histogram, part: Histogram, sign: int) -> None:
    merged.zero_count += sign * part.zero_count
    merged.sum_ns += sign * part.sum_ns
    buckets = merged.buckets
    for index, count in part.buckets.items():
        left = buckets.get(index, 0) + sign * count
        if left:
            buckets[index] = left
        else:
            del buckets[index]
