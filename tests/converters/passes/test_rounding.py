"""Weight rounding, checked against what it promises: the layer's output, not the weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop.graph.parts import cut
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.passes.codes import WeightCodes
from edgeloop_converters.passes.packed import PackedModel, run_real
from edgeloop_converters.passes.patches import LayerRows, as_rows, as_tensor
from edgeloop_converters.passes.rounding import Grid, gptq, round_weights
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes.codebooks import fitted_scales, uniform
from support.tiny_models import NONE, SAME, TinyBuilder, tiny_cnn


def correlated(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, 4)) @ random.standard_normal((4, columns)) + 0.1 * random.standard_normal(
        (rows, columns)
    )


def test_gptq_gives_less_output_error_than_rounding_to_nearest() -> None:
    inputs = correlated(500, 150)
    weights = np.random.default_rng(1).standard_normal((6, 150))
    scales = np.abs(weights).max(axis=1) / 7
    codes = gptq(weights, inputs.T @ inputs / len(inputs), scales, lambda values: np.clip(np.rint(values), -7, 7))
    nearest = np.clip(np.rint(weights / scales[:, None]), -7, 7)

    def error(found: np.ndarray) -> float:
        return float(np.square(inputs @ (weights - found * scales[:, None]).T).mean())

    assert codes.dtype == np.int8
    assert np.abs(codes).max() <= 7
    assert error(codes) < 0.2 * error(nearest)


def test_gptq_is_rounding_to_nearest_for_uncorrelated_inputs() -> None:
    weights = np.random.default_rng(1).standard_normal((3, 70))
    codes = gptq(weights, np.eye(70), np.array([0.02]))
    assert np.array_equal(codes, np.clip(np.rint(weights / 0.02), -127, 127))


@pytest.mark.parametrize(("kind", "kernel", "stride", "size"), [
    ("conv", 3, 1, 8), ("conv", 3, 2, 7), ("conv", 1, 2, 8), ("conv", 5, 3, 9),
    ("depthwise", 3, 1, 6), ("depthwise", 3, 2, 9), ("dense", 0, 0, 5),
])  # fmt: skip
def test_rows_times_weights_are_what_the_kernel_computes(kind: str, kernel: int, stride: int, size: int) -> None:
    b = TinyBuilder(3)
    if kind == "dense":
        x = b.input("x", (1, size))
        out = b.dense(x, 4)
    else:
        x = b.input("x", (1, size, size, 3))
        out = b.conv(x, 4, kernel, stride, NONE) if kind == "conv" else b.depthwise(x, kernel, stride, NONE)
    graph = b.finish(out)
    op = graph.main.ops[0]
    weight, bias = graph.constant(op, 1), graph.constant(op, 2)
    assert weight is not None
    assert weight.data is not None
    assert bias is not None
    values = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    places = LayerRows(graph, op, samples=1, wanted=10_000, seed=0)
    rows, matrix = places.rows(values, places.positions()), as_rows(op, weight.data)
    got = np.einsum("rkc,ck->rc", rows, matrix) if kind == "depthwise" else rows @ matrix.T
    with open_session(graph.write()) as session:
        wanted = session.run(values)[0]
    assert got + bias.data == pytest.approx(wanted.reshape(got.shape), abs=1e-4)
    assert np.array_equal(as_tensor(op, matrix, weight.shape), weight.data)
    assert op.option("padding") == SAME


def packed_model(seed: int = 0) -> tuple[PackedModel, list[tuple[np.ndarray]]]:
    model = tiny_cnn(seed)
    samples = [(s,) for s in np.random.default_rng(seed).random((64, 1, 8, 8, 3), np.float32)]
    ranges = calibrate(model, samples)
    return PackedModel(model, quantize_int8(model, ranges).tflite, ranges), samples


def test_every_kind_of_layer_is_done_and_scales_stay() -> None:
    model, samples = packed_model()
    before = {t.name: t for t in model.graph.copy().main.tensors}
    report = round_weights(model, samples, rows=500)
    assert "in 3 layers" in report.detail
    assert len(model.weights) == len(model.biases) == 3
    for name, codes in model.weights.items():
        old = before[name]
        assert old.quantization is not None
        assert np.array_equal(codes.scales, old.quantization.scale)
        assert not np.array_equal(codes.codes, old.data)


def test_biases_take_up_the_mean_error() -> None:
    model, samples = packed_model()
    names = [t.name for op in model.float_graph.main.ops if op.name == "FULLY_CONNECTED" for t in
             (model.float_graph.main.tensors[op.outputs[0]],)]  # fmt: skip

    def mean_error() -> float:
        total = np.zeros(4)
        with open_session(cut(model.graph, names)) as ours, open_session(cut(model.float_graph, names)) as theirs:
            out, source = ours.outputs[0].affine, ours.inputs[0].affine
            for (array,) in samples:
                codes = np.clip(np.rint(array / source.scale) + source.zero_point, -128, 127).astype(np.int8)
                real = (ours.run(codes)[0].astype(np.float32) - out.zero_point) * out.scale
                total += (real - theirs.run(array)[0]).ravel()
        return float(np.abs(total / len(samples)).max())

    name = next(
        t.name for t in Graph.read(model.write()).main.tensors if t.name.startswith("fully") or "bias" in t.name
    )
    assert name
    dense = next(op for op in model.float_graph.main.ops if op.name == "FULLY_CONNECTED")
    bias = model.float_graph.constant(dense, 2)
    assert bias is not None
    assert bias.data is not None
    model.set_bias(bias.name, np.asarray(bias.data + 0.3, np.float32))
    assert mean_error() > 0.2
    round_weights(model, samples, rounding=False, rows=500)
    assert mean_error() < 0.02
    assert not model.weights


def test_the_deadline_leaves_layers_as_they_are() -> None:
    model, samples = packed_model()
    before = model.write()
    report = round_weights(model, samples, deadline_s=0.0)
    assert "3 left for want of time" in report.detail
    assert model.write() == before


def test_a_depthwise_layer_is_rounded_by_what_its_channels_see() -> None:
    """On a coarse grid, where the difference shows: the layer's output errs less than with the nearest codes."""
    b = TinyBuilder(1)
    model = b.finish(b.depthwise(b.input("image", (1, 12, 12, 8)), activation=NONE)).write()
    random = np.random.default_rng(0)
    coarse = random.random((48, 1, 4, 4, 8)).astype(np.float32)
    samples = [(np.kron(image, np.ones((1, 3, 3, 1), np.float32)),) for image in coarse]  # neighbors are alike
    ranges = calibrate(model, samples)
    codebook = uniform(4)

    def error(kind: str) -> float:
        packed = PackedModel(model, quantize_int8(model, ranges).tflite, ranges)

        def grid(name: str, rows: np.ndarray, importance: np.ndarray) -> Grid:
            return Grid(fitted_scales(rows, codebook, importance), codebook.nearest)

        round_weights(packed, samples[:32], grid=grid, rows=8000)
        if kind == "nearest":
            ((name, done),) = packed.weights.items()
            source = packed.float_graph.tensor_by_name(name).data
            assert source is not None
            codes = codebook.nearest(np.asarray(source / done.scales, np.float64)).astype(np.int8)
            packed.set_weight(name, WeightCodes(codes, done.scales, done.axis))
        wanted = run_real(model, samples[32:])[0]
        errors = run_real(packed.write(), samples[32:])[0] - wanted
        return float(errors.std(axis=0).mean())

    assert error("feedback") < 0.93 * error("nearest")
