"""int8 files as they come out, checked by reading them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import dequantize, quantize
from edgeloop.errors import UsageError
from edgeloop.graph import Graph, make_options
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.quantization import quantize_int8, quantize_int8_tflite
from support.tiny_models import TinyBuilder


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


@pytest.fixture(scope="module")
def ranges(model: bytes) -> Ranges:
    return calibrate(model, [digit(image) for image in load_split().train_images[:100]])


def digit(image: np.ndarray) -> np.ndarray:
    return (image[None, ..., None] / 255).astype(np.float32)


def classes(model: bytes, count: int = 300) -> np.ndarray:
    with open_session(model) as session:
        info = session.inputs[0]
        found = [
            session.run(quantize(digit(image), info.affine, info.dtype))[0].argmax()
            for image in load_split().held_out_images[:count]
        ]
    return np.asarray(found)


def test_all_of_it_is_int8_and_it_agrees_with_float(model: bytes, ranges: Ranges) -> None:
    done = quantize_int8(model, ranges)
    graph = Graph.read(done.tflite)
    assert (done.scheme, done.float_ops, done.notes) == ("int8", (), ())
    assert graph.numeric_kind() == "int8"
    assert [t.dtype for t in [*graph.inputs, *graph.outputs]] == ["int8", "int8"]
    assert not {"QUANTIZE", "DEQUANTIZE"} & {op.name for op in graph.main.ops}
    assert len(done.tflite) < 0.45 * len(model)
    assert (classes(done.tflite) == classes(model)).mean() >= 0.98
    assert graph.signatures[0].inputs.keys() == Graph.read(model).signatures[0].inputs.keys()


def test_weights_are_per_channel_and_ranges_come_out_as_given(model: bytes, ranges: Ranges) -> None:
    forced = Ranges({**ranges.tensors, next(iter(ranges.tensors)): (0.0, 2.55)}, ranges.samples)
    graph = Graph.read(quantize_int8(model, forced).tflite)
    assert graph.inputs[0].affine.scale == pytest.approx(0.01, rel=1e-4)
    conv = next(op for op in graph.main.ops if op.name == "CONV_2D")
    weight = graph.main.tensors[conv.inputs[1]]
    assert weight.is_per_channel
    assert weight.dtype == "int8"


def test_versions_are_those_of_int8_ops(model: bytes, ranges: Ranges) -> None:
    versions = {op.name: op.version for op in Graph.read(quantize_int8(model, ranges).tflite).main.ops}
    assert versions["CONV_2D"] == 3
    assert versions["SOFTMAX"] == 2
    assert versions["FULLY_CONNECTED"] == 1


def test_one_scale_for_fully_connected_weights_on_request(model: bytes, ranges: Ranges) -> None:
    done = quantize_int8(model, ranges, fully_connected_per_tensor=True)
    graph = Graph.read(done.tflite)
    layers = [op for op in graph.main.ops if op.name == "FULLY_CONNECTED"]
    assert layers
    for op in layers:
        assert op.version == 4
        assert not graph.main.tensors[op.inputs[1]].is_per_channel
    assert (classes(done.tflite) == classes(model)).mean() >= 0.97


def test_ops_that_stay_float_are_named() -> None:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 8, 8, 4))
    y = builder.op("ELU", [builder.conv(x, 4)], (1, 8, 8, 4))
    builder.sub.outputs.append(builder.conv(y, 4))
    builder.graph.ensure_signature()
    data = builder.graph.write()
    xs = list(np.random.default_rng(0).standard_normal((8, 1, 8, 8, 4)).astype(np.float32))
    done = quantize_int8(data, calibrate(data, xs))
    assert done.float_ops == ("ELU",)
    assert done.notes == ("stayed float: ELU",)
    with open_session(data) as before, open_session(done.tflite) as after:
        real = before.run(xs[0])[0]
        codes = after.run(quantize(xs[0], after.inputs[0].affine, np.int8))[0]
        assert np.abs(dequantize(codes, after.outputs[0].affine) - real).max() < 0.1 * np.abs(real).max()


def test_a_loop_is_refused_with_a_way_out(model: bytes, ranges: Ranges) -> None:
    graph = Graph.read(model)
    graph.main.ops[0].name = "WHILE"
    graph.main.ops[0].options = make_options("WhileOptions", condSubgraphIndex=0, bodySubgraphIndex=0)
    with pytest.raises(UsageError, match="holds WHILE") as caught:
        quantize_int8(graph.write(), ranges)
    assert "unroll=True" in str(caught.value.hint)


def test_missing_ranges_are_one_line(model: bytes) -> None:
    with pytest.raises(UsageError, match="ai-edge-quantizer cannot quantize this model") as caught:
        quantize_int8(model, Ranges({}, 1))
    assert "\n" not in str(caught.value)


def test_the_library_prints_nothing(model: bytes, ranges: Ranges, capfd: pytest.CaptureFixture[str]) -> None:
    quantize_int8(model, ranges)
    assert capfd.readouterr() == ("", "")


def test_the_other_engine_needs_the_source(digits_tflite: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot start from a \.tflite"):
        quantize_int8_tflite(digits_tflite, [np.zeros((1, 8, 8, 1), np.float32)])
