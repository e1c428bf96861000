"""Ranges from the distribution of a tensor's values: percentile, mean squared error, entropy.

Each looks at one tensor alone; the end-to-end search (`range_search`) looks at the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Range = tuple[float, float]

BINS = 2048
LEVELS = 255
PERCENTILE = 99.99
_SHRINKS = np.linspace(1.0, 0.2, 81)
_FEWEST_BINS = 128


class Histogram:
    """Counts over equal bins; the bins grow with what comes in, so one pass over the samples is enough."""

    def __init__(self) -> None:
        self.counts: Doubles = np.zeros(BINS)
        self.low = self.high = 0.0
        self._edges = (0.0, 0.0)

    def add(self, values: Array) -> None:
        """values: finite, any shape."""
        low, high = float(values.min()), float(values.max())
        first = not self.counts.any()
        self.low, self.high = (low, high) if first else (min(self.low, low), max(self.high, high))
        left, right = self._edges
        if first or low < left or high > right:
            centres = self.centres()
            slack = 0.125 * max(self.high - self.low, 1e-9)  # so that the bins seldom have to grow
            self._edges = (self.low - slack * (self.low < 0), self.high + slack)
            if not first:
                self.counts = np.histogram(centres, BINS, self._edges, weights=self.counts)[0]
        self.counts = self.counts + np.histogram(values, BINS, self._edges)[0]

    def centres(self) -> Doubles:
        edges = np.linspace(*self._edges, BINS + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)

    @property
    def ends(self) -> Range:
        """The true extremes, widened to hold 0."""
        return min(self.low, 0.0), max(self.high, 0.0)


def percentile_range(histogram: Histogram, percentile: float = PERCENTILE) -> Range:
    """Cuts (100 - percentile) % of the values off: half at either end, all at the top where none are negative."""
    low, high = histogram.ends
    share = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1.0)
    centres, tail = histogram.centres(), (1 - percentile / 100) / (2 if low < 0 else 1)
    top = float(centres[min(int(np.searchsorted(share, 1 - tail)), BINS - 1)])
    bottom = float(centres[min(int(np.searchsorted(share, tail)), BINS - 1)])
    return max(low, min(bottom, 0.0)) if low < 0 else 0.0, min(high, max(top, 0.0))


def mse_range(histogram: Histogram) -> Range:
    """The range with the least mean squared error of the int8 values: step^2 / 12 inside, the distance outside."""
    centres, counts = histogram.centres(), histogram.counts

    def error(low: float, high: float) -> float:
        step = max(high - low, 1e-12) / LEVELS
        outside = np.maximum(centres - high, 0) + np.maximum(low - centres, 0)
        return float((counts * np.where(outside > 0, np.square(outside), step * step / 12)).sum())

    low, high = ends = histogram.ends
    for _ in range(2):
        high = min((ends[1] * f for f in _SHRINKS), key=lambda h: error(low, h))
        low = min((ends[0] * f for f in _SHRINKS), key=lambda lo: error(lo, high))
    return low, high


def entropy_range(histogram: Histogram) -> Range:
    """The range whose 255 levels lose the least information: least KL divergence from the clipped distribution.

    Migacz 2017, "8-bit Inference with TensorRT"; both ends shrink together. Known to collapse on tensors with few
    large values that matter: convert's gate measures what comes out.
    """
    low, high = histogram.ends
    centres, counts = histogram.centres(), histogram.counts
    best, chosen = np.inf, (low, high)
    for factor in _SHRINKS:
        inside = (centres >= low * factor) & (centres <= high * factor)
        if inside.sum() < _FEWEST_BINS:
            break
        divergence = _divergence(counts, np.flatnonzero(inside))
        if divergence < best:
            best, chosen = divergence, (low * factor, high * factor)
    return chosen


def _divergence(counts: Doubles, inside: npt.NDArray[np.int64]) -> float:
    first, last = int(inside[0]), int(inside[-1]) + 1
    kept = counts[first:last]
    clipped = kept.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.arange(kept.size) * LEVELS // kept.size
    filled = kept > 0
    sums = np.bincount(level, kept, minlength=LEVELS)
    fills = np.maximum(np.bincount(level, filled, minlength=LEVELS), 1)
    spread = np.where(filled, (sums / fills)[level], 0.0)
    if clipped.sum() == 0 or spread.sum() == 0:
        return float("inf")
    p, q = clipped / clipped.sum(), spread / spread.sum()
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))).sum())


CHOICES: dict[str, Callable[[Histogram], Range]] = {
    "percentile": percentile_range,
    "mse": mse_range,
    "entropy": entropy_range,
}
"""Calibration method -> how it takes a range from the values' distribution."""
