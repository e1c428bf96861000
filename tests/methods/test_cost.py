"""Latency, throughput and use of resources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.analysis import analyze
from edgeloop.bench import bench_model
from edgeloop.graph import Graph
from edgeloop.telemetry.histogram import RELATIVE_ERROR_BOUND, Histogram
from support.tiny_models import tiny_cnn_graph


@given(st.lists(st.integers(1_000, 10**9), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_a_percentile_of_reported_latencies_is_within_a_bucket_of_the_true_one(ns: list[int], p: int) -> None:
    """The value below which p percent lie; from buckets of 2^(1/16) it is off by 4.43 % at most."""
    low = float(np.percentile(ns, p, method="lower")) / 1e6
    high = float(np.percentile(ns, p, method="higher")) / 1e6
    found = Histogram.of_ns(ns).percentile(p)
    assert low * (1 - RELATIVE_ERROR_BOUND) <= found <= high * (1 + RELATIVE_ERROR_BOUND)


def test_throughput_is_inferences_over_time(digits_tflite: Path) -> None:
    """n / seconds; one inference at a time, so the mean latency times the throughput is the share of time inside, <= 1
    (Little 1961).
    """
    [result] = bench_model(digits_tflite, n=200).results
    inside = result.mean_ms / 1000 * result.throughput_per_s
    assert 0.3 < inside <= 1.01
    assert result.p50_ms <= result.p95_ms <= result.p99_ms
    assert sum(count for _, _, count in result.histogram) == result.n == 200


def test_use_of_resources_comes_with_every_measurement(digits_tflite: Path) -> None:
    [result] = bench_model(digits_tflite, n=50).results
    assert result.rss_bytes is not None and result.rss_bytes > digits_tflite.stat().st_size
    assert result.cpu_percent > 0  # how much depends on what else the machine does
    assert result.load_ms > 0


def test_multiply_accumulates_parameters_and_peak_memory() -> None:
    """Convolution: H W C_out k^2 C_in; depthwise: H W C k^2; dense: in * out. Peak: what is alive at once."""
    graph = tiny_cnn_graph(size=8, channels=3, filters=8, classes=4)
    found = analyze(Graph.read(graph.write()))
    conv, depthwise, dense = 4 * 4 * 8 * 9 * 3, 4 * 4 * 8 * 9, 8 * 4
    assert [op.macs for op in found.ops if op.macs] == [conv, depthwise, dense]
    assert found.macs == conv + depthwise + dense
    assert found.parameters == (8 * 27 + 8) + (72 + 8) + (32 + 4)
    assert found.peak_memory_bytes == pytest.approx(4 * max(8 * 8 * 3 + 4 * 4 * 8, 2 * 4 * 4 * 8))
