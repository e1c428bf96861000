"""Files of each scheme as they come out, checked by reading them; names and options."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.affine import dequantize, quantize
from edgeloop.errors import ConfigError, UsageError
from edgeloop.graph import Graph, Quantization
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import PassStep, plan_passes
from edgeloop_converters.schemes import NAMES, SCHEMES, check_io, scheme_named
from edgeloop_converters.schemes.borders import set_io
from edgeloop_converters.schemes.fixed_point import check_powers_of_two, power_of_two_ranges
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.verify import Made, other_weights
from support.tiny_models import TinyBuilder, tiny_cnn, tiny_two_inputs


def images(count: int = 16, shape: tuple[int, ...] = (1, 8, 8, 3)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((count, *shape)).astype(np.float32))


def made(name: str, model: bytes, shape: tuple[int, ...] = (1, 8, 8, 3)) -> Made:
    scheme = SCHEMES[name]
    assert scheme.load is not None
    ranges = calibrate(model, images(shape=shape)) if scheme.calibrated else None
    return scheme.load()(Job(model, ranges, lambda: ((x,) for x in images(shape=shape)), 16))


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("int8", "int8", "int8"),
        ("int8-per-tensor", "int8", "int8"),
        ("a16w8", "int16", "int16"),
        ("int4", "int8", "int8"),
        ("fp16", "float16", "float32"),
        ("fixed-point", "int8", "int8"),
        ("int8-compact", "int8", "int8"),
        ("clustered", "int8", "int8"),
        ("mixed", "int8", "int8"),
        ("dynamic", "hybrid", "float32"),
        ("weight-only", "hybrid", "float32"),
    ],
)
def test_the_file_computes_in_what_the_name_says(name: str, kind: str, dtype: str) -> None:
    done = made(name, tiny_cnn())
    graph = Graph.read(done.tflite)
    assert graph.numeric_kind() == kind
    assert {t.dtype for t in (*graph.inputs, *graph.outputs)} == {dtype}
    assert done.float_ops == ()


def test_one_scale_per_tensor() -> None:
    graph = Graph.read(made("int8-per-tensor", tiny_cnn()).tflite)
    assert not any(t.is_per_channel for t in graph.main.tensors)


def test_every_multiplier_of_a_fixed_point_model_is_a_shift() -> None:
    model = tiny_cnn()
    graph = Graph.read(made("fixed-point", model).tflite)
    tensors = [t for t in graph.main.tensors if t.quantization is not None and t.is_quantized]
    assert len(tensors) > 8
    for tensor in tensors:
        assert tensor.quantization is not None
        assert (np.frexp(tensor.quantization.scale)[0] == 0.5).all()
    xs = images(64)
    with open_session(model) as before, open_session(graph.write()) as after:
        affine, out = after.inputs[0].affine, after.outputs[0].affine
        errors = [
            np.abs(dequantize(after.run(quantize(x, affine, np.int8))[0], out) - before.run(x)[0]).max() for x in xs
        ]
    assert np.mean(errors) < 0.03


@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6))
def test_spans_of_powers_of_two_clip_at_most_a_fifth(high: float, low: float) -> None:
    low = min(low, high)
    span = power_of_two_ranges(Ranges({"x": (low, high)}, 1)).tensors["x"]
    assert span[1] >= 0.79 * high
    assert span[0] <= min(0.0, 0.79 * low)
    assert math.frexp((span[1] - span[0]) / 255)[0] == 0.5


def test_weights_that_cannot_be_4_bit_are_named() -> None:
    done = made("int4", tiny_cnn())
    assert done.notes == ("weights left in int8: DEPTHWISE_CONV_2D",)
    kinds = {
        op.name: Graph.read(done.tflite).main.tensors[op.inputs[1]].dtype for op in Graph.read(done.tflite).main.ops[:2]
    }
    assert kinds == {"CONV_2D": "int4", "DEPTHWISE_CONV_2D": "int8"}


def with_elu() -> bytes:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 8, 8, 3))
    y = builder.op("ELU", [builder.conv(x, 4)], (1, 8, 8, 4))
    builder.sub.outputs.append(builder.conv(y, 4))
    builder.graph.ensure_signature()
    return builder.graph.write()


@pytest.mark.parametrize(
    "name", ["int8", "int8-per-tensor", "a16w8", "int4", "fixed-point", "int8-compact", "clustered"]
)
def test_ops_that_stay_float_are_named(name: str) -> None:
    done = made(name, with_elu())
    assert done.float_ops == ("ELU",)
    assert "stayed float: ELU" in done.notes


def test_a_model_without_anything_to_quantize_is_refused() -> None:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 8, 8, 3))
    model = builder.finish(builder.op("ELU", [x], (1, 8, 8, 3))).write()
    with pytest.raises(UsageError, match="no op of this model could be quantized"):
        made("a16w8", model)


def test_only_depthwise_weights_cannot_be_int4() -> None:
    builder = TinyBuilder(0)
    x = builder.input("x", (1, 8, 8, 32))
    model = builder.finish(builder.depthwise(x)).write()
    with pytest.raises(UsageError, match="no weight of this model could be stored as int4"):
        made("int4", model, (1, 8, 8, 32))


def test_other_weights_looks_through_dequantize() -> None:
    graph = Graph.read(made("weight-only", tiny_cnn()).tflite)
    assert "DEQUANTIZE" in {op.name for op in graph.main.ops}
    assert other_weights(graph, "int8") == {}
    assert set(other_weights(graph, "float16")) == {"int8"}


def test_uint8_borders_change_no_value() -> None:
    model = made("int8", tiny_cnn()).tflite
    outside = set_io(model, "uint8")
    with open_session(model) as signed, open_session(outside) as unsigned:
        assert unsigned.inputs[0].affine.scale == signed.inputs[0].affine.scale
        codes = np.random.default_rng(1).integers(-128, 128, signed.inputs[0].shape, np.int8)
        ours = unsigned.run((codes.astype(np.int16) + 128).astype(np.uint8))[0].astype(np.int16) - 128
        assert (ours == signed.run(codes)[0]).all()


def test_borders_of_a_model_with_two_inputs_keep_their_names_and_signature() -> None:
    model = tiny_two_inputs()
    graph = Graph.read(model)
    rng = np.random.default_rng(0)
    xs = [tuple(rng.random(t.shape).astype(np.float32) for t in graph.inputs) for _ in range(8)]
    job = Job(model, calibrate(model, xs))
    load = SCHEMES["int8"].load
    assert load is not None
    after = Graph.read(set_io(load()(job).tflite, "float"))
    assert [t.name for t in after.inputs] == [t.name for t in graph.inputs]
    assert list(after.signatures[0].inputs.values()) == after.main.inputs
    assert list(after.signatures[0].outputs.values()) == after.main.outputs
    assert {t.dtype for t in (*after.inputs, *after.outputs)} == {"float32"}


def test_names() -> None:
    assert scheme_named("16x8").name == "a16w8"
    assert {"int8", "int8-per-tensor", "a16w8", "16x8", "int4", "fp16", "dynamic", "weight-only", "float"} <= set(NAMES)
    with pytest.raises(UsageError, match="not known") as caught:
        scheme_named("int3")
    assert "int8-per-tensor" in str(caught.value.hint)


@pytest.mark.parametrize(("name", "io"), [("a16w8", "int8"), ("fp16", "uint8"), ("dynamic", "int8"), ("float", "int8")])
def test_inputs_that_a_scheme_cannot_have_are_refused(name: str, io: str) -> None:
    with pytest.raises(UsageError, match="computes in"):
        check_io(SCHEMES[name], io)


def test_recipes_are_checked(tmp_path: Path) -> None:
    assert plan_passes("16x8", "aeq", "default")[1].options["scheme"] == "a16w8"
    with pytest.raises(UsageError, match="makes int8 only"):
        plan_passes("a16w8", "tflite", "default")
    with pytest.raises(ConfigError, match="needs 'calibrate'"):
        Recipe("m.tflite", passes=(PassStep("quantize", {"scheme": "int8"}),))
    with pytest.raises(ConfigError, match="needs no 'calibrate'"):
        Recipe("m.tflite", passes=(PassStep("calibrate"), PassStep("quantize", {"scheme": "fp16"})))
    with pytest.raises(ConfigError, match="scheme must be one of"):
        PassStep("quantize", {"scheme": "int3"})
    with pytest.raises(UsageError, match="computes in 16 bit"):
        Recipe("m.tflite", passes=(PassStep("calibrate"), PassStep("quantize", {"scheme": "a16w8", "io": "int8"})))


def test_a_scale_that_no_shift_makes_is_refused_with_the_op_that_reads_it() -> None:
    graph = Graph.read(tiny_cnn())
    index = graph.main.ops[0].inputs[0]
    graph.main.tensors[index].dtype = "int8"
    graph.main.tensors[index].quantization = Quantization.per_tensor(0.3, 0)
    with pytest.raises(UsageError, match="read by CONV_2D, has a scale that is no power of two") as caught:
        check_powers_of_two(graph)
    assert "--scheme int8" in str(caught.value.hint)


def test_constants_that_are_added_get_powers_of_two_too() -> None:
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    offset = b.constant("offset", np.linspace(-0.7, 1.3, 4, dtype=np.float32)[None])
    model = b.finish(b.op("ADD", [b.dense(x, 4), offset], (1, 4))).write()
    graph = Graph.read(made("fixed-point", model, (1, 6)).tflite)
    (constant,) = [t for t in graph.main.tensors if t.name.startswith("offset")]
    assert math.log2(constant.affine.scale).is_integer()
    error = np.abs(dequantize(constant.data, constant.affine) - np.linspace(-0.7, 1.3, 4)).max()
    assert error <= constant.affine.scale / 2 + 1e-6
