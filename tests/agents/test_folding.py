"""The worker's histograms by numpy are those of the scalar fold, bucket for bucket."""

from __future__ import annotations

from itertools import pairwise
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.telemetry.histogram import MAX_INDEX, Histogram
from edgeloop_agent.worker.folding import FrameTimes, histogram_of, stage_histograms

LATENCIES_NS = st.lists(st.integers(-5, 2**50), min_size=1, max_size=50)


@given(LATENCIES_NS)
def test_the_same_buckets_as_one_value_at_a_time(values: list[int]) -> None:
    assert histogram_of(np.array(values)) == Histogram.of_ns(values)


def test_the_same_bucket_on_both_sides_of_every_border() -> None:
    borders = [floor(2.0 ** (index / 16)) for index in range(MAX_INDEX + 1)]
    values = [near for border in borders for near in (border - 1, border, border + 1) if near < 2**48]
    assert all(histogram_of(np.array([value])) == Histogram.of_ns([value]) for value in values)


def test_each_stage_is_the_time_between_two_readings() -> None:
    times: list[FrameTimes] = [(0, 10, 30, 100, 101), (200, 215, 215, 300, 320)]
    stages = ("capture", "preprocess", "invoke", "postprocess")
    spans = {name: [b - a for a, b in (list(pairwise(frame))[i] for frame in times)] for i, name in enumerate(stages)}
    spans["total"] = [101, 120]
    assert stage_histograms(times) == {name: Histogram.of_ns(values).to_wire() for name, values in spans.items()}


def test_no_frames_are_no_histograms() -> None:
    assert stage_histograms([]) == {}
