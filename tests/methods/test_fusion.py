"""Fusion: in series, in parallel, in space; the function stays, work and memory fall."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.graph import Graph, make_options
from edgeloop.runtime import open_session
from edgeloop_converters.passes import optimize_graph
from support.tiny_models import NONE, RELU, SAME, VALID, TinyBuilder


def check(graph: Graph, expected: list[str]) -> tuple[Graph, dict[str, float], dict[str, float]]:
    """The ops that are left, and the same answers within rounding."""
    better, report = optimize_graph(graph)
    assert [op.name for op in better.main.ops] == expected
    random = np.random.default_rng(1)
    inputs = [random.standard_normal(t.shape).astype(np.float32) for t in graph.inputs]
    answers = []
    for model in (graph, better):
        with open_session(model.write(), delegate="cpu") as session:
            answers.append(session.run(*inputs)[0])
    assert np.allclose(answers[0], answers[1], rtol=1e-4, atol=1e-4 * np.abs(answers[0]).max())
    return better, dict(report.before), dict(report.after)


def scaled(b: TinyBuilder, x: int) -> int:
    """Batch normalization as converters leave it: a scale and a shift per channel."""
    channels = b.shape(x)[-1]
    scale = b.constant(f"scale{x}", (b.random.random(channels) + 0.5).astype(np.float32))
    shift = b.constant(f"shift{x}", b.random.standard_normal(channels).astype(np.float32))
    y = b.op("MUL", [x, scale], b.shape(x), make_options("MulOptions"))
    return b.op("ADD", [y, shift], b.shape(x), make_options("AddOptions"))


def test_serial_a_convolution_takes_its_normalization_and_activation() -> None:
    """gamma (W x + b) + beta = (gamma W) x + (gamma b + beta)."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 8, 8, 3))
    y = scaled(b, b.conv(x, 8, activation=NONE))
    check(b.finish(b.op("RELU", [y], b.shape(y))), ["CONV_2D"])


@pytest.mark.parametrize(("padding", "work"), [(VALID, 5 * 64), (SAME, 5 * 64)])
def test_serial_a_conv_conv_fc_graph_is_one_dense_layer(padding: int, work: int) -> None:
    """W3 (W2 (W1 x + b1) + b2) + b3, no activation between: one layer, whose weights are the product of all."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 8, 8, 1))
    for filters in (16, 32):
        before = b.shape(x)
        x = b.conv(x, filters, 3, activation=NONE)
        b.sub.ops[-1].options.padding = padding
        if padding == VALID:
            b.sub.tensors[x].shape = (1, before[1] - 2, before[2] - 2, filters)
    size = int(np.prod(b.shape(x)))
    shape = b.constant("flat", np.array([1, size], np.int32))
    y = b.op("RESHAPE", [x, shape], (1, size), make_options("ReshapeOptions", newShape=[1, size]))
    _, before_, after = check(b.finish(b.dense(y, 5, activation=RELU)), ["RESHAPE", "FULLY_CONNECTED"])
    assert after["macs"] == work < before_["macs"] / 100
    assert after["peak_memory_bytes"] < before_["peak_memory_bytes"] and after["bytes"] < before_["bytes"]


def test_serial_two_kernels_of_3x3_are_one_of_5x5_where_that_is_less_work() -> None:
    """(W2 * W1)[y, x] = sum of W2[i, j] W1[y - i, x - j]."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 9, 9, 2))
    for filters, size in ((24, 7), (6, 3)):
        x = b.conv(x, filters, 3, stride=1 if filters == 24 else 2, activation=NONE)
        b.sub.ops[-1].options.padding = VALID
        b.sub.tensors[x].shape = (1, size, size, filters)
    better, before, after = check(b.finish(x), ["CONV_2D"])
    assert better.main.tensors[better.main.ops[0].inputs[1]].shape == (6, 5, 5, 2)
    assert after["macs"] == 9 * 6 * 25 * 2 < before["macs"]


def test_parallel_siblings_on_one_input_are_one_layer() -> None:
    """[W1 x, W2 x] = [W1; W2] x."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 8, 8, 3))
    join = make_options("ConcatenationOptions", axis=3)
    y = b.op("CONCATENATION", [b.conv(x, 4), b.conv(x, 6)], (1, 8, 8, 10), join)
    _, before, after = check(b.finish(y), ["CONV_2D"])
    assert after["peak_memory_bytes"] < before["peak_memory_bytes"]


def test_parallel_linear_branches_are_summed() -> None:
    """W1 x + W2 x = (W1 + W2) x: half the work."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 8, 8, 3))
    branches = [b.conv(x, 6, activation=NONE) for _ in range(2)]
    _, before, after = check(b.finish(b.add(*branches)), ["CONV_2D"])
    assert after["macs"] == before["macs"] / 2


def test_spatial_a_residual_block_of_3x3_1x1_and_identity_is_one_kernel() -> None:
    """RepVGG: W3 * x + W1 * x + x = (W3 + pad(W1) + pad(I)) * x, normalizations folded in before."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 8, 8, 6))
    y = b.add(scaled(b, b.conv(x, 6, 3, activation=NONE)), scaled(b, b.conv(x, 6, 1, activation=NONE)), NONE)
    better, before, after = check(b.finish(b.add(y, x, RELU)), ["CONV_2D"])
    assert after["macs"] / before["macs"] == 9 / 10
    assert after["peak_memory_bytes"] < before["peak_memory_bytes"]
    assert better.main.tensors[better.main.ops[0].inputs[1]].shape == (6, 3, 3, 6)


def test_spatial_an_average_behind_a_convolution_is_a_larger_kernel_with_a_stride() -> None:
    """16 taps once instead of 9 taps four times."""
    b = TinyBuilder(0)
    x = b.conv(b.input("x", (1, 8, 8, 3)), 4, activation=NONE)
    options = make_options("Pool2DOptions", padding=VALID, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    _, before, after = check(b.finish(b.op("AVERAGE_POOL_2D", [x], (1, 4, 4, 4), options)), ["CONV_2D"])
    assert after["macs"] / before["macs"] == 16 / 36
