"""Weights given as codes: they are in the file bit for bit, and the biases follow them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.affine import dequantize, quantize
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.passes.codes import WeightCodes, operands, write_codes
from edgeloop_converters.quantization import quantize_int8
from support.tiny_models import tiny_cnn

LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny_cnn()


@pytest.fixture(scope="module")
def samples() -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((32, 1, 8, 8, 3), np.float32))


@pytest.fixture(scope="module")
def ranges(model: bytes, samples: list[np.ndarray]) -> Ranges:
    return calibrate(model, samples)


def coarse_codes(model: bytes, largest: int = 15) -> dict[str, WeightCodes]:
    """Weights on a grid of 2 * `largest` + 1 steps: no channel reaches code 127."""
    graph, found = Graph.read(model), {}
    for op in graph.main.ops:
        weight = graph.constant(op, 1) if op.name in LAYERS else None
        if weight is None or weight.data is None:
            continue
        axis = LAYERS[op.name]
        others = tuple(i for i in range(weight.data.ndim) if i != axis)
        scales = np.abs(weight.data).max(axis=others) / np.float32(largest)
        steps = weight.data / scales.reshape([-1 if i == axis else 1 for i in range(weight.data.ndim)])
        found[weight.name] = WeightCodes(np.rint(steps).astype(np.int8), scales, axis)
    return found


def test_codes_and_scales_are_in_the_file_bit_for_bit(model: bytes, ranges: Ranges) -> None:
    codes = coarse_codes(model)
    assert len(codes) == 3
    graph = Graph.read(write_codes(quantize_int8(model, ranges).tflite, model, codes, {}))
    for name, wanted in codes.items():
        tensor = graph.tensor_by_name(name)
        assert tensor.data is not None
        assert tensor.quantization is not None
        assert np.array_equal(tensor.data, wanted.codes)
        assert np.array_equal(tensor.quantization.scale, wanted.scales)
        assert tensor.quantization.dimension == wanted.axis
        assert not tensor.quantization.zero_point.any()


def test_biases_follow_the_scales_of_input_and_weights(model: bytes, ranges: Ranges) -> None:
    codes = coarse_codes(model)
    graph, floats = Graph.read(write_codes(quantize_int8(model, ranges).tflite, model, codes, {})), Graph.read(model)
    checked = 0
    for op in graph.main.ops:
        if op.name not in LAYERS:
            continue
        source, weight, bias = (graph.main.tensors[i] for i in op.inputs)
        assert bias.quantization is not None
        assert bias.data is not None
        assert bias.dtype == "int32"
        wanted = np.float32(source.affine.scale) * codes[weight.name].scales
        assert bias.quantization.scale == pytest.approx(wanted, rel=1e-6)
        real = bias.data * bias.quantization.scale
        assert np.abs(real - floats.tensor_by_name(bias.name).data).max() <= bias.quantization.scale.max() / 2 * 1.01
        checked += 1
    assert checked == 3


def test_the_file_computes_what_the_codes_say(model: bytes, ranges: Ranges, samples: list[np.ndarray]) -> None:
    codes = coarse_codes(model, largest=100)
    written = write_codes(quantize_int8(model, ranges).tflite, model, codes, {})
    expected = Graph.read(model)
    for name, weight in codes.items():
        expected.tensor_by_name(name).data = weight.real()
    with open_session(written) as session, open_session(expected.write()) as reference:
        for sample in samples[:10]:
            info, out = session.inputs[0], session.outputs[0]
            got = dequantize(session.run(quantize(sample, info.affine, info.dtype))[0], out.affine)
            assert np.abs(got - reference.run(sample)[0]).max() < 0.05


def test_given_biases_replace_the_models_own(model: bytes, ranges: Ranges) -> None:
    floats = Graph.read(model)
    dense = next(op for op in floats.main.ops if op.name == "FULLY_CONNECTED")
    name = floats.main.tensors[dense.inputs[operands(dense)[1]]].name
    given = np.array([1.0, -2.0, 3.0, 0.0], np.float32)
    before = Graph.read(quantize_int8(model, ranges).tflite)
    after = Graph.read(write_codes(before.write(), model, {}, {name: given}))
    bias = after.tensor_by_name(name)
    assert bias.quantization is not None
    assert bias.data is not None
    assert bias.data * bias.quantization.scale == pytest.approx(given, abs=1e-3)
    others = [(a, b) for a, b in zip(before.main.tensors, after.main.tensors, strict=True) if a.name != name]
    assert all(a.data is None or np.array_equal(a.data, b.data) for a, b in others)


def test_one_scale_for_a_whole_weight(model: bytes, ranges: Ranges) -> None:
    name, codes = next((n, c) for n, c in coarse_codes(model).items() if c.codes.ndim == 2)
    whole = WeightCodes(codes.codes, np.array([0.02], np.float32))
    graph = Graph.read(write_codes(quantize_int8(model, ranges).tflite, model, {name: whole}, {}))
    assert graph.tensor_by_name(name).quantization.scale.tolist() == pytest.approx([0.02])  # type: ignore[union-attr]


def test_what_does_not_fit_is_named(model: bytes, ranges: Ranges) -> None:
    packed = quantize_int8(model, ranges).tflite
    name, codes = next(iter(coarse_codes(model).items()))
    with pytest.raises(UsageError, match="no weights 'nowhere'"):
        write_codes(packed, model, {"nowhere": codes}, {})
    with pytest.raises(UsageError, match="do not fit"):
        write_codes(packed, model, {name: WeightCodes(codes.codes[:1], codes.scales, codes.axis)}, {})
    with pytest.raises(UsageError, match="positive"):
        write_codes(packed, model, {name: WeightCodes(codes.codes, codes.scales * 0, codes.axis)}, {})
    with pytest.raises(UsageError, match="are float32"):
        write_codes(model, model, {name: codes}, {})
    with pytest.raises(UsageError, match="no bias"):
        write_codes(packed, model, {}, {"nowhere": np.zeros(3, np.float32)})
