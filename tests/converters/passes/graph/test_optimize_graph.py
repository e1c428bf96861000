"""Graph rewriting: each fusion does what it says, the function stays, and what would cost more is not done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from edgeloop.graph import Graph, Op, make_options
from edgeloop.progress import SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.passes import optimize_graph
from edgeloop_converters.passes.graph import optimize as module
from support.tiny_models import NONE, RELU, SAME, VALID, TinyBuilder, tiny_cnn, tiny_residual

Build = Callable[[TinyBuilder], int]


def run(graph: Graph) -> np.ndarray:
    random = np.random.default_rng(5)
    with open_session(graph.write(), delegate="cpu") as session:
        return session.run(*(random.standard_normal(t.shape).astype(np.float32) for t in session.inputs))[0]


def built(build: Build, shape: tuple[int, ...] = (1, 8, 8, 4)) -> Graph:
    b = TinyBuilder(3)
    x = b.input("x", shape)
    assert x == 0
    return Graph.read(b.finish(build(b)).write())


def ops(graph: Graph) -> dict[str, int]:
    return dict(Counter(op.name for op in graph.main.ops))


def small(b: TinyBuilder, *shape: int) -> int:
    return b.constant(f"c{len(b.sub.tensors)}", (b.random.random(shape) + 0.5).astype(np.float32))


def pad(b: TinyBuilder, x: int, by: tuple[int, int] = (1, 1)) -> int:
    n, h, w, c = b.shape(x)
    pads = b.constant(f"pads{x}", np.array([[0, 0], by, by, [0, 0]], np.int32))
    return b.op("PAD", [x, pads], (n, h + sum(by), w + sum(by), c), make_options("PadOptions"))


def unpadded(b: TinyBuilder, x: int, filters: int, stride: int = 1, activation: int = NONE) -> int:
    y = b.conv(x, filters, stride=stride, activation=activation)
    n, h, w, _ = b.shape(x)
    b.sub.ops[-1].options.padding = VALID
    b.sub.tensors[y].shape = (n, -(-(h - 2) // stride), -(-(w - 2) // stride), filters)
    return y


def relu(b: TinyBuilder, x: int, name: str = "RELU") -> int:
    return b.op(name, [x], b.shape(x))


def mul(b: TinyBuilder, x: int, y: int) -> int:
    return b.op("MUL", [x, y], b.shape(x), make_options("MulOptions"))


def transpose(b: TinyBuilder, x: int, order: tuple[int, ...]) -> int:
    perm = b.constant(f"perm{len(b.sub.tensors)}", np.array(order, np.int32))
    return b.op("TRANSPOSE", [x, perm], tuple(b.shape(x)[i] for i in order), make_options("TransposeOptions"))


def pool(b: TinyBuilder, x: int, window: int, stride: int, name: str = "AVERAGE_POOL_2D") -> int:
    n, h, w, c = b.shape(x)
    options = make_options(
        "Pool2DOptions", padding=VALID, strideH=stride, strideW=stride, filterHeight=window, filterWidth=window
    )
    size = lambda s: -(-(s - window + 1) // stride)  # noqa: E731
    return b.op(name, [x], (n, size(h), size(w), c), options)


def concat(b: TinyBuilder, *parts: int) -> int:
    shape = (*b.shape(parts[0])[:-1], sum(b.shape(p)[-1] for p in parts))
    return b.op("CONCATENATION", list(parts), shape, make_options("ConcatenationOptions", axis=-1))


def reshape(b: TinyBuilder, x: int, shape: tuple[int, ...]) -> int:
    told = b.constant(f"shape{len(b.sub.tensors)}", np.array(shape, np.int32))
    return b.op("RESHAPE", [x, told], shape, make_options("ReshapeOptions", newShape=list(shape)))


def add_constant(b: TinyBuilder, x: int, *shape: int) -> int:
    return b.op("ADD", [x, small(b, *shape)], b.shape(x), make_options("AddOptions"))


BACK = (0, 2, 3, 1)


def turned(b: TinyBuilder, x: int) -> int:
    return transpose(b, x, (0, 3, 1, 2))


def normalized(b: TinyBuilder, x: int) -> int:
    """As PyTorch's batch normalization of an input is exported: a difference, two products and a sum."""
    y = b.op("SUB", [x, small(b, 1, 1, 1, 4)], b.shape(x), make_options("SubOptions"))
    return add_constant(b, mul(b, mul(b, y, small(b, 1, 1, 1, 4)), small(b, 4)), 4)


def halves(b: TinyBuilder, x: int) -> tuple[int, int]:
    """[1, 4, 8, 8] split into channels, then the same rows of both."""
    axis = b.constant("axis", np.array(1, np.int32))
    left, right = b.tensor("left", (1, 2, 8, 8)), b.tensor("right", (1, 2, 8, 8))
    b.sub.ops.append(Op("SPLIT", [axis, x], [left, right], make_options("SplitOptions", numSplits=2)))
    begin, size = (b.constant(n, np.array(v, np.int32)) for n, v in (("begin", [0, 1, 0, 0]), ("size", [1, 1, -1, 8])))
    return relu(b, left, "TANH"), b.op("SLICE", [right, begin, size], (1, 1, 8, 8))


def concat_at(b: TinyBuilder, axis: int, *parts: int) -> int:
    shape = list(b.shape(parts[0]))
    shape[axis] = sum(b.shape(p)[axis] for p in parts)
    return b.op("CONCATENATION", list(parts), shape, make_options("ConcatenationOptions", axis=axis))


def pad_axes(b: TinyBuilder, x: int, before: tuple[int, ...]) -> int:
    pads = b.constant(f"pads{x}", np.array([[n, 0] for n in before], np.int32))
    return b.op("PAD", [x, pads], [s + n for s, n in zip(b.shape(x), before, strict=True)], make_options("PadOptions"))


def mean_axes(b: TinyBuilder, x: int, *axes: int) -> int:
    told = b.constant(f"axes{x}", np.array(axes, np.int32))
    shape = [1 if i in axes else n for i, n in enumerate(b.shape(x))]
    return b.op("MEAN", [x, told], shape, make_options("ReducerOptions", keepDims=True))


def bounded(b: TinyBuilder, x: int, name: str, value: float) -> int:
    bound = b.constant(f"bound{x}", np.array(value, np.float32))
    return b.op(name, [x, bound], b.shape(x), make_options("MaximumMinimumOptions"))


def size_of(b: TinyBuilder, x: int) -> int:
    """The length of the last axis, as a float."""
    shape = b.tensor(f"shape_of_{x}", (4,), "int32")
    b.sub.ops.append(Op("SHAPE", [x], [shape], make_options("ShapeOptions", outType=2)))
    sizes = b.op("CAST", [shape], (4,), make_options("CastOptions", inDataType=2, outDataType=0))
    return b.op("RSQRT", [sizes], (4,))


def folded(b: TinyBuilder) -> int:
    total = b.op("ADD", [small(b, 4), small(b, 4)], (4,), make_options("AddOptions"))
    return mul(b, relu(b, 0), total)


CASES: dict[str, tuple[Build, dict[str, int]]] = {
    "activation into the op": (lambda b: relu(b, b.conv(0, 4, activation=NONE)), {"CONV_2D": 1}),
    "padding into the convolution": (lambda b: unpadded(b, pad(b, 0), 4), {"CONV_2D": 1}),
    "padding of a stride that SAME puts elsewhere stays": (
        lambda b: unpadded(b, pad(b, 0), 4, stride=2), {"PAD": 1, "CONV_2D": 1},
    ),
    "scale and shift behind": (
        lambda b: relu(b, add_constant(b, mul(b, b.conv(0, 4, activation=NONE), small(b, 4)), 1, 1, 1, 4)),
        {"CONV_2D": 1},
    ),
    "scale before, into a padded one": (lambda b: b.conv(mul(b, 0, small(b, 4)), 5), {"CONV_2D": 1}),
    "shift before, not into a padded one": (lambda b: b.conv(add_constant(b, 0, 4), 5), {"ADD": 1, "CONV_2D": 1}),
    "shift before, into an unpadded one": (lambda b: unpadded(b, add_constant(b, 0, 4), 5), {"CONV_2D": 1}),
    "scale between depthwise and its input": (lambda b: b.depthwise(mul(b, 0, small(b, 4))), {"DEPTHWISE_CONV_2D": 1}),
    "a chain k x k, 1 x 1": (lambda b: b.conv(b.conv(0, 6, stride=2, activation=NONE), 3, 1), {"CONV_2D": 1}),
    "a chain 1 x 1, k x k without padding": (
        lambda b: unpadded(b, b.conv(0, 8, 1, activation=NONE), 3), {"CONV_2D": 1},
    ),
    "a chain that would be more work": (
        lambda b: b.conv(b.conv(0, 2, 1, activation=NONE), 8, 1), {"CONV_2D": 2},
    ),
    "a chain with an activation between": (lambda b: b.conv(b.conv(0, 6, activation=RELU), 3, 1), {"CONV_2D": 2}),
    "branches of 3 x 3, 1 x 1 and the input": (
        lambda b: b.add(b.add(b.conv(0, 4, activation=NONE), b.conv(0, 4, 1, activation=NONE), NONE), 0, RELU),
        {"CONV_2D": 1},
    ),
    "a depthwise branch and the input": (
        lambda b: b.add(b.depthwise(0, activation=NONE), 0), {"DEPTHWISE_CONV_2D": 1},
    ),
    "branches with a stride": (
        lambda b: b.add(b.conv(0, 4, 3, 2, activation=NONE), b.conv(0, 4, 3, 2, activation=NONE)), {"CONV_2D": 1},
    ),
    "branches of 3 x 3, 1 x 1 and the input's normalization": (
        lambda b: b.add(
            b.add(b.conv(0, 4, activation=NONE), b.conv(0, 4, 1, activation=NONE), NONE), normalized(b, 0), RELU
        ),
        {"CONV_2D": 1},
    ),
    "a padded branch of 3 x 3 and one of 1 x 1, with a stride": (
        lambda b: b.add(unpadded(b, pad(b, 0), 4, stride=2), b.conv(0, 4, 1, 2, activation=NONE)),
        {"PAD": 1, "CONV_2D": 1},
    ),
    "a padded branch and the input": (
        lambda b: b.add(unpadded(b, pad(b, 0), 4), 0), {"CONV_2D": 1},
    ),
    "a branch padded on one side, and the input": (
        lambda b: b.add(unpadded(b, pad(b, 0, (2, 0)), 4), 0), {"PAD": 1, "CONV_2D": 1},
    ),
    "a branch with a stride and one without stay": (
        lambda b: b.add(b.conv(0, 4, 3, 2, activation=NONE), pool(b, 0, 1, 2), NONE),
        {"CONV_2D": 1, "AVERAGE_POOL_2D": 1, "ADD": 1},
    ),
    "scales and shifts in a row": (
        lambda b: relu(b, normalized(b, relu(b, 0, "TANH"))), {"TANH": 1, "MUL": 1, "ADD": 1},
    ),
    "scales in a row": (
        lambda b: mul(b, mul(b, relu(b, 0, "TANH"), small(b, 4)), small(b, 1)), {"TANH": 1, "MUL": 1},
    ),
    "siblings beside another branch": (
        lambda b: concat(b, b.conv(0, 5, 1), b.conv(0, 3), b.conv(0, 4), b.conv(0, 2), relu(b, 0)),
        {"CONV_2D": 2, "RELU": 1, "CONCATENATION": 1},
    ),
    "siblings that are concatenated": (lambda b: concat(b, b.conv(0, 3), b.conv(0, 5), b.conv(0, 2)), {"CONV_2D": 1}),
    "siblings of other windows": (
        lambda b: concat(b, b.conv(0, 3), b.conv(0, 5, 1)), {"CONV_2D": 2, "CONCATENATION": 1},
    ),
    "the same twice": (lambda b: b.add(relu(b, b.depthwise(0)), relu(b, b.depthwise(0)), NONE), {}),
    "constants": (folded, {"RELU": 1, "MUL": 1}),
    "transposes around an activation": (
        lambda b: transpose(b, relu(b, transpose(b, 0, (0, 3, 1, 2))), (0, 2, 3, 1)), {"RELU": 1},
    ),
    "transposes around a scale per channel": (
        lambda b: transpose(b, mul(b, relu(b, transpose(b, 0, (0, 3, 1, 2))), small(b, 4, 1, 1)), (0, 2, 3, 1)),
        {"RELU": 1, "MUL": 1},
    ),
    "transposes around a concatenation and a padding": (
        lambda b: transpose(
            b, pad_axes(b, concat_at(b, 1, turned(b, relu(b, 0)), turned(b, relu(b, 0, "TANH"))), (0, 0, 1, 2)), BACK
        ),
        {"RELU": 1, "TANH": 1, "CONCATENATION": 1, "PAD": 1},
    ),
    "transposes around a mean over space": (
        lambda b: transpose(b, mean_axes(b, turned(b, relu(b, 0)), 2, 3), BACK), {"RELU": 1, "MEAN": 1},
    ),
    "transposes around a split and a slice": (
        lambda b: transpose(b, concat_at(b, 1, *halves(b, turned(b, relu(b, 0)))), BACK),
        {"RELU": 1, "SPLIT": 1, "TANH": 1, "SLICE": 1, "CONCATENATION": 1},
    ),
    "a transpose before a dense layer": (
        lambda b: b.dense(reshape(b, turned(b, b.conv(0, 6)), (1, 384)), 3),
        {"CONV_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1},
    ),
    "a maximum with 0, a minimum with 6": (
        lambda b: bounded(b, bounded(b, b.conv(0, 4, activation=NONE), "MAXIMUM", 0), "MINIMUM", 6), {"CONV_2D": 1},
    ),
    "a shape that is known": (lambda b: mul(b, 0, size_of(b, 0)), {"MUL": 1}),
    "averages of averages": (lambda b: pool(b, pool(b, 0, 2, 2), 2, 2), {"AVERAGE_POOL_2D": 1}),
    "an average into a kernel": (lambda b: pool(b, b.conv(0, 4, activation=NONE), 2, 2), {"CONV_2D": 1}),
    "positions thrown away": (lambda b: pool(b, b.conv(0, 4, 1), 1, 2, "MAX_POOL_2D"), {"CONV_2D": 1}),
    "reshapes of reshapes": (
        lambda b: relu(b, reshape(b, reshape(b, relu(b, 0), (1, 256)), (1, 8, 8, 4)), "TANH"), {"RELU": 1, "TANH": 1},
    ),
    "a dead end": (lambda b: (b.conv(0, 9), b.conv(0, 2))[1], {"CONV_2D": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_rewritten_graph_computes_the_same_with_fewer_ops(case: str) -> None:
    build, expected = CASES[case]
    graph = built(build)
    before = graph.content_hash()
    better, report = optimize_graph(graph)
    assert np.abs(run(graph) - run(better)).max() <= 1e-4 * np.abs(run(graph)).max()
    if expected:
        assert ops(better) == expected, report.detail
    assert report.after["macs"] <= report.before["macs"]
    assert report.after["ops"] <= report.before["ops"]
    assert graph.content_hash() == before


def test_twins_are_computed_once() -> None:
    b = TinyBuilder(3)
    x = b.input("x", (1, 8, 8, 4))
    weights, bias = b.weights("w", (4, 1, 1, 4)), b.constant("b", np.zeros(4, np.float32))
    options = make_options("Conv2DOptions", padding=SAME, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    twins = [b.op("CONV_2D", [x, weights, bias], (1, 8, 8, 4), options) for _ in range(2)]
    graph = b.finish(b.op("MUL", twins, (1, 8, 8, 4), make_options("MulOptions")))
    better, _ = optimize_graph(graph)
    assert ops(better) == {"CONV_2D": 1, "MUL": 1}


def test_a_rule_that_changes_the_answers_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(editor: module.Editor) -> int:
        bias = next(t for t in editor.main.tensors if t.name.endswith("bias"))
        bias.data = np.asarray(bias.data) + np.float32(0.5)
        return 1

    monkeypatch.setattr(module, "EXACT", {"wrong": wrong})
    graph, progress = Graph.read(tiny_residual()), SilentProgress()
    better, _ = optimize_graph(graph, progress=progress)
    assert np.array_equal(run(better), run(graph))
    assert "wrong: not kept, the answers differ" in progress.notes[0]


def test_signatures_inputs_and_outputs_stay() -> None:
    graph = Graph.read(tiny_cnn())
    better, _ = optimize_graph(graph)
    again = Graph.read(better.write())
    assert [t.name for t in again.inputs] == [t.name for t in graph.inputs]
    assert list(again.signatures[0].outputs) == list(graph.signatures[0].outputs)
    assert [t.name for t in again.outputs] == [t.name for t in graph.outputs]


def test_the_report_has_work_size_and_memory() -> None:
    graph = built(CASES["branches of 3 x 3, 1 x 1 and the input"][0])
    _, report = optimize_graph(graph)
    assert set(report.after) == {"macs", "bytes", "peak_memory_bytes", "ops"}
    assert report.after["macs"] == pytest.approx(report.before["macs"] * 9 / 10)
    assert report.after["peak_memory_bytes"] < report.before["peak_memory_bytes"]
