"""A Graph as a TensorFlow function: the same numbers as LiteRT, for any batch, gradients, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, make_options
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.trainable import TrainableGraph
from support.interpreting import interpreter, random_input, run
from support.single_ops import CASES, Case, build
from support.tiny_models import NONE, RELU6, TinyBuilder, tiny_cnn, tiny_mlp, tiny_residual, tiny_two_inputs

pytestmark = pytest.mark.tensorflow

BATCH = 3
TOLERANCE = 1e-4
GENERATED = {"cnn": tiny_cnn(), "mlp": tiny_mlp(), "residual": tiny_residual(), "two inputs": tiny_two_inputs()}


def worst_error(model: bytes, scale: float = 1.0) -> float:
    """Largest absolute difference to LiteRT, over a batch of different samples."""
    random = np.random.default_rng(0)
    details = interpreter(model).get_input_details()
    samples = [[random_input(d, random) * scale for d in details] for _ in range(BATCH)]
    samples = [[np.asarray(a, d["dtype"]) for a, d in zip(s, details, strict=True)] for s in samples]
    wanted = [
        np.concatenate([np.atleast_1d(o) for o in column])
        for column in zip(*[run(model, inputs=s) for s in samples], strict=True)
    ]
    batch = [np.concatenate(column) for column in zip(*samples, strict=True)]
    got = [np.asarray(value) for value in TrainableGraph(Graph.read(model))(*batch)]
    assert [g.shape for g in got] == [w.shape for w in wanted]
    return max(float(np.abs(g.astype(float) - w.astype(float)).max()) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_every_op_computes_a_batch_as_litert_computes_its_samples(case: Case) -> None:
    model = build(case, "float32").write()
    try:
        interpreter(model)
    except (RuntimeError, ValueError) as error:
        pytest.skip(f"LiteRT does not take this case: {error}")
    assert worst_error(model) <= TOLERANCE


@pytest.mark.parametrize("name", GENERATED)
def test_generated_models_have_litert_s_numbers(name: str) -> None:
    assert worst_error(GENERATED[name]) <= TOLERANCE


@pytest.mark.parametrize("source", ["pretrainedResnet.tflite", "pretrainedResnet_large_float.tflite", "kws_ref_model"])
def test_real_models_have_litert_s_numbers(source: str, shared_data: Path) -> None:
    path = shared_data / "models" / "mlperf_tiny" / source
    assert worst_error(to_float_tflite(path).tflite, 255.0 if "esnet" in source else 10.0) <= TOLERANCE


def attention() -> bytes:
    """[1, 4, 4, 3] -> tokens [1, 16, 8] -> [16, 8] flattened for the dense layers -> attention -> softmax [1, 4]."""
    b = TinyBuilder(3)
    x = b.conv(b.input("image", (1, 4, 4, 3)), 8, activation=NONE)

    def shaped(x: int, *shape: int) -> int:
        return b.op("RESHAPE", [x, b.constant(f"s{len(b.sub.ops)}", np.array(shape, np.int32))], shape,
                    make_options("ReshapeOptions", newShape=list(shape)))  # fmt: skip

    flat = shaped(x, 16, 8)
    query, key, value = (shaped(b.dense(flat, 8), 1, 16, 8) for _ in range(3))
    scores = b.op("BATCH_MATMUL", [query, key], (1, 16, 16), make_options("BatchMatMulOptions", adjY=True))
    mixed = b.op("BATCH_MATMUL", [b.softmax(scores), value], (1, 16, 8), make_options("BatchMatMulOptions"))
    turned = b.op("TRANSPOSE", [shaped(mixed, 16, 8), b.constant("perm", np.array([1, 0], np.int32))], (8, 16))
    return b.finish(b.softmax(b.dense(shaped(turned, 1, 128), 4))).write()


def convolutions() -> bytes:
    """Grouped, dilated, strided and dilated depthwise with a multiplier, transposed with bias, then concatenated with
    slices."""
    b = TinyBuilder(4)
    x = b.conv(b.input("image", (1, 8, 8, 4)), 8)

    def conv(x: int, name: str, shape: tuple[int, ...], out: int, kind: str, **fields: Any) -> int:
        options = make_options(
            kind, **{"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, **fields}
        )
        size = -(-8 // fields.get("strideH", 1))
        weights = b.constant(f"{name}/w", b.random.standard_normal(shape).astype(np.float32) / 4)
        bias = b.constant(f"{name}/b", np.full(out, 0.1, np.float32))
        op = "DEPTHWISE_CONV_2D" if kind.startswith("Depth") else "CONV_2D"
        return b.op(op, [x, weights, bias], (1, size, size, out), options)

    grouped = conv(x, "grouped", (6, 3, 3, 4), 6, "Conv2DOptions")
    dilated = conv(x, "dilated", (4, 3, 3, 8), 4, "Conv2DOptions", dilationHFactor=2, dilationWFactor=2)
    strided = conv(x, "strided", (1, 3, 3, 16), 16, "DepthwiseConv2DOptions", depthMultiplier=2, strideH=2, strideW=2,
                   dilationHFactor=2, dilationWFactor=2)  # fmt: skip
    up = b.op(
        "TRANSPOSE_CONV",
        [b.constant("up/shape", np.array([1, 8, 8, 5], np.int32)), b.weights("up/w", (5, 3, 3, 16)), strided,
         b.constant("up/b", np.full(5, 0.2, np.float32))],
        (1, 8, 8, 5), make_options("TransposeConvOptions", strideH=2, strideW=2, fusedActivationFunction=RELU6),
    )  # fmt: skip
    both = b.op("CONCATENATION", [grouped, dilated, up], (1, 8, 8, 15), make_options("ConcatenationOptions", axis=-1))
    sizes, axis = b.constant("sizes", np.array([7, 8], np.int32)), b.constant("axis", np.array(3, np.int32))
    left, right = b.tensor("left", (1, 8, 8, 7)), b.tensor("right", (1, 8, 8, 8))
    b.sub.ops.append(Op("SPLIT_V", [both, sizes, axis], [left, right], make_options("SplitVOptions", numSplits=2)))
    return b.finish(b.softmax(b.dense(b.mean(left), 3)), b.dense(b.mean(right), 2)).write()


def windows(activation: int) -> bytes:
    """Fused activations on what has windows or moves elements; SPLIT, SLICE, PADV2, SUB, sizes that do not divide."""
    b = TinyBuilder(5)
    x = b.input("image", (1, 9, 7, 4))
    pool = make_options("Pool2DOptions", padding=0, strideH=2, strideW=2, filterHeight=3, filterWidth=3,
                        fusedActivationFunction=activation)  # fmt: skip
    both = [b.op(name, [x], (1, 5, 4, 4), pool) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")]
    less = b.op("SUB", both, (1, 5, 4, 4), make_options("SubOptions", fusedActivationFunction=activation))
    left, right = b.tensor("left", (1, 5, 4, 2)), b.tensor("right", (1, 5, 4, 2))
    axis = b.constant("axis", np.array(-1, np.int32))
    b.sub.ops.append(Op("SPLIT", [axis, less], [left, right], make_options("SplitOptions", numSplits=2)))
    pads = b.constant("pads", np.array([[0, 0], [0, 1], [1, 0], [0, 0]], np.int32))
    value = b.constant("value", np.array(0.7, np.float32))
    padded = b.op("PADV2", [left, pads, value], (1, 6, 5, 2))
    begin, size = (b.constant(n, np.array(v, np.int32)) for n, v in (("begin", [0, 1, 0, 0]), ("size", [1, 4, -1, 1])))
    cut = b.op("SLICE", [right, begin, size], (1, 4, 4, 1))
    options = make_options("ResizeBilinearOptions", alignCorners=True)
    grown = b.op("RESIZE_BILINEAR", [cut, b.constant("to", np.array([6, 5], np.int32))], (1, 6, 5, 1), options)
    scaled = b.op("MUL", [padded, grown], (1, 6, 5, 2), make_options("MulOptions", fusedActivationFunction=activation))
    keep = make_options("ReducerOptions", keepDims=True)
    return b.finish(b.op("MEAN", [scaled, b.constant("over", np.array([2, -3], np.int32))], (1, 1, 1, 2), keep)).write()


@pytest.mark.parametrize("activation", range(5), ids=["none", "relu", "relu-1-1", "relu6", "tanh"])
def test_fused_activations_and_windows_have_litert_s_numbers(activation: int) -> None:
    """A fused tanh is one that LiteRT's kernels leave out; such ops are frozen islands."""
    model = windows(activation)
    assert worst_error(model) <= TOLERANCE
    islands = [note for note in TrainableGraph(Graph.read(model)).notes if "a fused activation that LiteRT" in note]
    assert len(islands) == (4 if activation == 4 else 0)


@pytest.mark.parametrize("model", [attention(), convolutions()], ids=["attention", "convolutions"])
def test_what_mixes_axes_and_rare_convolutions_have_litert_s_numbers(model: bytes) -> None:
    assert worst_error(model) <= TOLERANCE


@pytest.mark.parametrize("model", [*GENERATED.values(), attention(), convolutions()])
def test_gradients_reach_every_variable_and_what_is_learnt_goes_back_to_the_file(model: bytes) -> None:
    import tensorflow as tf

    trainable = TrainableGraph(Graph.read(model))
    random = np.random.default_rng(1)
    batch = [random.random((2 * t.shape[0], *t.shape[1:])).astype(np.float32) for t in trainable.graph.inputs]
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(tf.square(output - 0.3)) for output in trainable(*batch)])
    variables = list(trainable.variables.values())
    gradients = tape.gradient(loss, variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(0.01 * gradient)
    back = trainable.to_graph()
    assert [op.name for op in back.main.ops] == [op.name for op in Graph.read(model).main.ops]
    assert all(np.array_equal(back.tensor_by_name(name).data, v) for name, v in trainable.weights().items())
    outputs = [np.asarray(v) for v in trainable(*[a[: len(a) // 2] for a in batch])]
    for got, wanted in zip(outputs, run(back.write(), inputs=[a[: len(a) // 2] for a in batch]), strict=True):
        assert np.abs(got - wanted).max() <= TOLERANCE


def with_unknown_op() -> Graph:
    """A dense layer, CUMSUM (which is not known), and a dense layer behind it."""
    b = TinyBuilder(5)
    x = b.dense(b.input("features", (1, 6)), 5)
    total = b.op("CUMSUM", [x, b.constant("axis", np.array(1, np.int32))], (1, 5), make_options("CumsumOptions"))
    return b.finish(b.softmax(b.dense(total, 3)))


def test_an_unknown_op_is_a_frozen_island_values_pass_and_gradients_do_not() -> None:
    import tensorflow as tf

    graph = with_unknown_op()
    assert worst_error(graph.write()) <= TOLERANCE
    trainable = TrainableGraph(graph)
    assert "op 1 CUMSUM is not known here" in trainable.notes[0] and "gradients do not" in trainable.notes[0]
    before, behind = trainable.variables["dense_0/weights"], trainable.variables["dense_2/weights"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(trainable(np.ones((2, 6), np.float32))[0]))
    gradients = tape.gradient(loss, [before, behind])
    assert gradients[0] is None and np.abs(gradients[1]).max() > 0


def test_an_unknown_op_is_refused_by_name_where_islands_are_not_wanted() -> None:
    with pytest.raises(UsageError, match="op 1 CUMSUM is not known here: it cannot be trained"):
        TrainableGraph(with_unknown_op(), islands=False)


def test_models_with_a_state_and_quantized_models_are_refused(shared_data: Path) -> None:
    graph = with_unknown_op()
    graph.main.ops[1] = Op("SVDF", [*graph.main.ops[1].inputs], graph.main.ops[1].outputs)
    with pytest.raises(UsageError, match="op 1 SVDF keeps state"):
        TrainableGraph(graph)
    with pytest.raises(UsageError, match="computes in int8"):
        TrainableGraph(Graph.read(shared_data / "models" / "mlperf_tiny" / "pretrainedResnet_quant.tflite"))


def test_lone_numbers_of_formulas_and_frozen_names_are_no_variables() -> None:
    b = TinyBuilder(6)
    x = b.input("features", (1, 4))
    scaled = b.op("MUL", [x, b.constant("half", np.array([0.5], np.float32))], (1, 4), make_options("MulOptions"))
    shifted = b.op("ADD", [scaled, b.constant("shift", np.ones(4, np.float32))], (1, 4), make_options("AddOptions"))
    graph = b.finish(b.dense(shifted, 2))
    names = {"shift", "dense_2/weights", "dense_2/bias"}
    assert set(TrainableGraph(graph).variables) == names
    assert set(TrainableGraph(graph, frozen={"dense_2/bias"}).variables) == names - {"dense_2/bias"}
