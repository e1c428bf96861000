"""Ops back in float inside a quantized file: with all of them the float model's function, else only those change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import dequantize, quantize
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.quantization import float_ops, quantize_int8
from edgeloop_converters.repair.restore import find_twins, restore
from edgeloop_converters.schemes.borders import set_io
from support.tiny_models import tiny_residual

Array = np.ndarray


def run(model: bytes, x: Array) -> Array:
    with open_session(model) as session:
        info = session.inputs[0]
        session.set_input(0, quantize(x, info.affine, info.dtype))
        session.invoke()
        return dequantize(session.output(0), session.outputs[0].affine)


@pytest.fixture(scope="module")
def samples() -> list[Array]:
    return [(image[None, ..., None] / 255).astype(np.float32) for image in load_split().train_images[:40]]


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


@pytest.fixture(scope="module")
def packed(model: bytes, samples: list[Array]) -> bytes:
    return quantize_int8(model, calibrate(model, samples)).tflite


def test_all_ops_in_float_compute_what_the_float_model_does(model: bytes, packed: bytes, samples: list[Array]) -> None:
    graph, original = Graph.read(packed), Graph.read(model)
    twins = find_twins(original, graph)
    assert len(twins) == len(graph.main.ops) == 9
    restored = restore(graph, original, twins)
    assert [op.name for op in restored.main.ops] == ["DEQUANTIZE", *(op.name for op in original.main.ops)]
    assert restored.outputs[0].dtype == "float32"
    x = np.round(samples[0] * 255) / 255  # what the int8 input can say
    assert np.allclose(run(restored.write(), x), run(model, x), atol=5e-3)


def test_the_graph_that_is_restored_stays_as_it_was(model: bytes, packed: bytes) -> None:
    graph = Graph.read(packed)
    before = graph.content_hash()
    restore(graph, Graph.read(model), [1, 3])
    assert graph.content_hash() == before


@pytest.mark.parametrize("index", range(9))
def test_one_op_in_float_leaves_all_others_in_int8(
    model: bytes, packed: bytes, samples: list[Array], index: int
) -> None:
    graph = Graph.read(packed)
    restored = restore(graph, Graph.read(model), [index])
    assert float_ops(restored) == (graph.main.ops[index].name,)
    kept = [op.name for op in restored.main.ops if op.name not in ("QUANTIZE", "DEQUANTIZE")]
    assert kept == [op.name for op in graph.main.ops]
    with open_session(restored.write()) as session, open_session(packed) as plain:
        ran, before = session.ran_on, plain.ran_on
        assert ran.total_ops - ran.delegated_ops <= before.total_ops - before.delegated_ops
    assert np.abs(run(restored.write(), samples[3]) - run(packed, samples[3])).max() < 0.1


def test_between_two_float_ops_there_is_no_border(model: bytes, packed: bytes) -> None:
    restored = restore(Graph.read(packed), Graph.read(model), [1, 2, 3])
    names = [op.name for op in restored.main.ops]
    assert names[:7] == ["CONV_2D", "DEQUANTIZE", "CONV_2D", "MAX_POOL_2D", "CONV_2D", "QUANTIZE", "MAX_POOL_2D"]


def test_an_output_keeps_its_codes_where_that_is_asked(model: bytes, packed: bytes) -> None:
    graph, original = Graph.read(packed), Graph.read(model)
    last = len(graph.main.ops) - 1
    assert restore(graph, original, [last]).outputs[0].dtype == "float32"
    kept = restore(graph, original, [last], keep_io=True)
    assert (kept.outputs[0].dtype, kept.outputs[0].affine) == ("int8", graph.outputs[0].affine)
    assert kept.main.ops[-1].name == "QUANTIZE"
    assert kept.signatures[0].outputs == {"output_0": kept.main.outputs[0]}


def test_a_float_border_is_not_crossed_twice(model: bytes, packed: bytes) -> None:
    graph = Graph.read(set_io(packed, "float"))
    twins = find_twins(Graph.read(model), graph)
    restored = restore(graph, Graph.read(model), [min(twins), max(twins)])
    assert restored.main.ops[-1].name == "SOFTMAX"
    assert [op.name for op in restored.main.ops[:2]] == ["CONV_2D", "QUANTIZE"]
    everything = restore(graph, Graph.read(model), twins)
    assert [op.name for op in everything.main.ops] == [op.name for op in Graph.read(model).main.ops]


def test_weights_may_stay_int8(model: bytes, packed: bytes, samples: list[Array]) -> None:
    graph, original = Graph.read(packed), Graph.read(model)
    wide, lean = restore(graph, original, [3]), restore(graph, original, [3], keep_weights=True)
    assert len(lean.write()) < len(packed) + 2000 < len(wide.write())
    assert np.abs(run(lean.write(), samples[1]) - run(wide.write(), samples[1])).max() < 0.05


def test_a_tensor_with_two_readers_is_float_for_one_and_codes_for_the_other() -> None:
    model = tiny_residual()
    x = [np.random.default_rng(i).random((1, 8, 8, 3), np.float32) for i in range(20)]
    packed = quantize_int8(model, calibrate(model, x)).tflite
    graph = Graph.read(packed)
    add = next(i for i, op in enumerate(graph.main.ops) if op.name == "ADD")
    restored = restore(graph, Graph.read(model), [0, add])
    assert float_ops(restored) == ("CONV_2D", "ADD")
    assert np.abs(run(restored.write(), x[0]) - run(model, x[0])).max() < 0.05
