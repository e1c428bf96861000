"""Latency over a device's last reports, kept up to date by adding the newest and taking the oldest away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from edgeloop.telemetry.histogram import Histogram


class LatencyWindow:
    """The last `size` histograms, merged exactly. Kept as bytes, since a fleet has a few hundred thousand of them."""

    __slots__ = ("_merged", "_parts", "_trend", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._merged = Histogram()
        self._parts: deque[tuple[bytes, int, int]] = deque()
        self._trend: deque[float] = deque(maxlen=size)

    def add(self, histograms: Iterable[tuple[Histogram, bytes]]) -> None:
        """Each with its `to_wire`, newest last."""
        merged, parts = self._merged, self._parts
        for histogram, wire in histograms:
            if not histogram.count:
                continue
            parts.append((wire, histogram.min_ns, histogram.max_ns))
            self._trend.append(histogram.percentile(95))
            _put(merged, histogram, 1)
            if len(parts) > self.size:
                _put(merged, Histogram.from_wire(parts.popleft()[0]), -1)
        if parts:
            merged.min_ns = min(part[1] for part in parts)
            merged.max_ns = max(part[2] for part in parts)

    @property
    def histogram(self) -> Histogram:
        """All of them merged; not to be changed."""
        return self._merged

    @property
    def trend_p95_ms(self) -> tuple[float, ...]:
        """The p95 of each, oldest first."""
        return tuple(self._trend)


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
