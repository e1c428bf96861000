"""Weights: w / ||w|| as the per-channel scale, fixed point, floor(x * Q) and its non-linear form floor(f(x) * Q)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.graph import Graph
from edgeloop.telemetry.histogram import bucket_index
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes.codebooks import k_means, logarithmic, uniform
from edgeloop_converters.schemes.fixed_point import power_of_two_above, power_of_two_ranges, power_of_two_weights
from support.tiny_models import tiny_cnn, tiny_cnn_graph

CONV = "conv_0/weights"


def packed(model: bytes) -> Graph:
    samples = list(np.random.default_rng(0).random((8, 1, 8, 8, 3)).astype(np.float32))
    return Graph.read(quantize_int8(model, calibrate(model, samples, method="min-max")).tflite)


def test_weights_are_normalized_by_their_channels_largest_value() -> None:
    """w = g * v / ||v|| with the maximum norm: the codes are 127 * w / max|w|, and g is 127 * scale."""
    model = tiny_cnn()
    floats = Graph.read(model).tensor_by_name(CONV).data
    tensor = packed(model).tensor_by_name(CONV)
    assert floats is not None and tensor.data is not None and tensor.quantization is not None
    norms = np.abs(floats).reshape(len(floats), -1).max(axis=1)
    assert np.allclose(tensor.quantization.scale, norms / 127, rtol=1e-5)
    assert (np.abs(tensor.data).reshape(len(floats), -1).max(axis=1) == 127).all()
    direction = floats / norms.reshape(-1, 1, 1, 1)
    assert np.abs(tensor.data / 127 - direction).max() <= 0.5 / 127 + 1e-6


def test_a_channels_length_moves_only_its_scale() -> None:
    graph = tiny_cnn_graph()
    before = packed(graph.write()).tensor_by_name(CONV)
    weights = graph.tensor_by_name(CONV)
    assert weights.data is not None
    lengths = np.array([0.25, 1, 3, 8, 1, 1, 0.5, 2], np.float32)
    weights.data = weights.data * lengths.reshape(-1, 1, 1, 1)
    after = packed(graph.write()).tensor_by_name(CONV)
    assert before.data is not None and after.data is not None
    assert np.abs(before.data.astype(int) - after.data).max() <= 1  # a tie may fall to the other side
    assert before.quantization is not None and after.quantization is not None
    assert np.allclose(after.quantization.scale, before.quantization.scale * lengths, rtol=1e-5)


def test_fixed_point_is_round_of_x_times_two_to_the_n() -> None:
    """Q(x) = round(x * 2^n): every weight is its code times 2^-n, within half of that where it is not clipped."""
    model = tiny_cnn()
    floats = Graph.read(model).tensor_by_name(CONV).data
    assert floats is not None
    found = power_of_two_weights(packed(model), Graph.read(model))[CONV]
    n = -np.log2(found.scales)
    assert (n == np.round(n)).all()
    shifted = floats * (2.0**n).reshape(-1, 1, 1, 1)
    unclipped = np.abs(shifted) <= 127
    assert (found.codes[unclipped] == np.rint(shifted[unclipped])).all()
    assert unclipped.mean() > 0.95


@given(st.floats(-1e4, 0), st.floats(1e-3, 1e4))
def test_fixed_point_ranges_have_a_power_of_two_as_step(low: float, high: float) -> None:
    found = power_of_two_ranges(Ranges({"t": (low, high)}, 1)).tensors["t"]
    step = (found[1] - found[0]) / 255
    assert np.log2(step) == pytest.approx(round(np.log2(step)))
    # What is clipped is at most a fifth of either end.
    assert found[1] >= 0.8 * high * (1 - 1e-9) and found[0] <= 0.8 * low * (1 - 1e-9)


@given(st.floats(1e-6, 1e6))
def test_the_power_of_two_above_is_the_next_one(value: float) -> None:
    found = power_of_two_above(value)
    assert found >= value > found / 2 or value <= 2.0**-30


@given(st.integers(2, 8), st.lists(st.floats(-300, 300), min_size=1, max_size=20))
def test_a_uniform_codebook_is_floor_of_x_times_q(bits: int, values: list[float]) -> None:
    """floor(x * Q + 1/2) with Q codes to the unit, here 1, and saturation: rounding is a floor moved by half a step."""
    book = uniform(bits)
    x = np.array([v for v in values if abs(v - np.floor(v) - 0.5) > 1e-9])
    expected = np.clip(np.floor(x + 0.5), -book.largest, book.largest)
    assert (book.nearest(x) == expected).all()


@given(st.lists(st.floats(20, 127), min_size=1, max_size=20), st.booleans())
def test_a_logarithmic_codebook_is_floor_of_f_of_x_times_q(sizes: list[float], negative: bool) -> None:
    """floor(f(x) * Q) with f = log2 and Q = 2 levels to the octave, counted down from 127.

    The border between neighbors is their mean, so the floor is moved by a constant: 1 - 2 log2(2 / (1 + 2^-0.5)).
    """
    book = logarithmic(32)
    x = np.array(sizes) * (-1 if negative else 1)
    position = 2 * np.log2(127 / np.abs(x)) + 1 - 2 * np.log2(2 / (1 + 2**-0.5))
    far_from_a_border = np.abs(position - np.rint(position)) > 0.06  # levels are whole numbers
    level = np.rint(127 * 2.0 ** (-np.floor(position) / 2)) * np.sign(x)
    assert (book.nearest(x)[far_from_a_border] == level[far_from_a_border]).all()


@given(st.integers(1, 2**40))
def test_latency_buckets_are_floor_of_log2_times_16(ns: int) -> None:
    """The same non-linear form for latencies: f = log2, Q = 16 buckets to the octave, each closed at its upper end."""
    position = np.log2(ns) * 16
    if abs(position - round(position)) > 1e-6:
        assert bucket_index(ns) == int(np.floor(position))


def test_k_means_levels_are_the_means_of_what_they_stand_for() -> None:
    """Lloyd's condition (Lloyd 1957, Max 1960): the best level of a cell is the mean of the values in it."""
    rows = np.random.default_rng(0).standard_normal((4, 500))
    rows /= np.abs(rows).max(axis=1, keepdims=True)
    book = k_means(rows, 16, np.ones(500))
    values = rows.ravel() * 127
    cells = book.nearest(values)
    for level in book.levels:
        if level != 0 and np.count_nonzero(cells == level) > 20:
            assert values[cells == level].mean() == pytest.approx(level, abs=1.0)
