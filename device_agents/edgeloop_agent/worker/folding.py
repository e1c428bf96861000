"""Clock readings of many frames to a histogram per stage at once: a tenth of what one value at a time costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from edgeloop.telemetry.histogram import BUCKETS_PER_OCTAVE, MAX_VALUE_NS, Histogram
from edgeloop.telemetry.report import STAGES

FrameTimes = tuple[int, int, int, int, int]
"""When a frame was begun, captured, prepared, invoked and decoded: ns of one clock."""


def stage_histograms(times: Sequence[FrameTimes]) -> dict[str, bytes]:
    """Stage -> wire form of the histogram of its latencies; empty without frames."""
    if not times:
        return {}
    readings = np.fromiter(chain.from_iterable(times), np.int64, 5 * len(times)).reshape(-1, 5)
    spans_ns = np.concatenate([np.diff(readings), readings[:, 4:] - readings[:, :1]], axis=1).T
    return {stage: histogram_of(values).to_wire() for stage, values in zip(STAGES, spans_ns, strict=True)}


def histogram_of(values_ns: npt.NDArray[np.int64]) -> Histogram:
    """As `Histogram.of_ns`, bucket for bucket, for an int64 [N], N > 0, whose sum stays below 2**63 (292 years)."""
    values_ns = np.clip(values_ns, 0, MAX_VALUE_NS)
    histogram = Histogram()
    histogram.sum_ns = int(values_ns.sum())
    histogram.min_ns, histogram.max_ns = int(values_ns.min()), int(values_ns.max())
    above_zero = values_ns[values_ns > 0]
    histogram.zero_count = len(values_ns) - len(above_zero)
    if len(above_zero):
        indices = np.ceil(np.log2(above_zero) * BUCKETS_PER_OCTAVE).astype(np.int64) - 1
        lowest = int(indices.min())
        counts = np.bincount(indices - lowest)
        filled = np.flatnonzero(counts)
        histogram.buckets = dict(zip((filled + lowest).tolist(), counts[filled].tolist(), strict=True))
    return histogram
