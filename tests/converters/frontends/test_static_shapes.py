"""A .tflite of free length: fixed by --shape or by the data, without the source that it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, make_options
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.frontends.conversion import ConversionOptions
from support.tiny_models import RELU, TinyBuilder, tiny_mlp


@pytest.fixture
def free(tmp_path: Path) -> Path:
    """ "series" [?, ?, 3] -> RESHAPE to what SHAPE says, dense + ReLU on the last axis, maximum over time, softmax."""
    b = TinyBuilder(0)
    x = b.input("series", (1, 1, 3))
    shape = b.op("SHAPE", [x], (3,), make_options("ShapeOptions", outType=2))
    b.sub.tensors[shape].dtype = "int32"
    same = b.op("RESHAPE", [x, shape], (1, 1, 3), make_options("ReshapeOptions"))
    number = len(b.sub.ops)
    weights = b.weights(f"dense_{number}/weights", (4, 3))
    options = make_options("FullyConnectedOptions", fusedActivationFunction=RELU, keepNumDims=True)
    dense = b.op("FULLY_CONNECTED", [same, weights, -1], (1, 1, 4), options)
    axes = b.constant("axes", np.array([1], np.int32))
    largest = b.op("REDUCE_MAX", [dense, axes], (1, 4), make_options("ReducerOptions", keepDims=False))
    graph = b.finish(b.softmax(largest))
    for tensor in graph.main.tensors:
        if not tensor.is_constant and len(tensor.shape) == 3:
            tensor.shape_signature = (-1, -1, tensor.shape[2])
    path = tmp_path / "free.tflite"
    path.write_bytes(graph.write())
    return path


def test_every_tensor_gets_its_shape_and_shape_arithmetic_becomes_constant(free: Path) -> None:
    model = to_float_tflite(free, ConversionOptions(shape=(7, 3)))
    assert "free sizes are fixed: series 7x3; 1 ops that computed shapes are constants now" in model.notes
    graph = Graph.read(model.tflite)
    assert graph.inputs[0].shape == (1, 7, 3)
    assert "SHAPE" not in {op.name for op in graph.main.ops}
    assert all(tensor.is_static for tensor in graph.main.tensors)
    assert {t.shape for t in graph.main.tensors if not t.is_constant} == {(1, 7, 3), (1, 7, 4), (1, 4)}


def test_the_numbers_stay_the_same(free: Path) -> None:
    x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    with open_session(to_float_tflite(free, ConversionOptions(sample_shape=(5, 3))).tflite) as session:
        (fixed,) = session.run(x)
    graph = Graph.read(free)
    graph.inputs[0].shape, graph.inputs[0].shape_signature = (1, 5, 3), None
    with open_session(graph.write(), delegate="cpu") as session:
        (free_running,) = session.run(x)
    assert np.allclose(fixed, free_running, atol=1e-6)


def test_without_a_size_it_is_asked_for_and_a_wrong_one_is_refused(free: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no fixed shape") as caught:
        to_float_tflite(free)
    assert "--shape" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"--shape 7x4: input 'series' takes \?x3"):
        to_float_tflite(free, ConversionOptions(shape=(7, 4)))
    fixed = tmp_path / "fixed.tflite"
    fixed.write_bytes(tiny_mlp())
    with pytest.raises(UsageError, match="--shape 7: input 'features' takes 10"):
        to_float_tflite(fixed, ConversionOptions(shape=(7,)))
    assert to_float_tflite(fixed, ConversionOptions(shape=(10,))).notes == ()
