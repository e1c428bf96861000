"""Float inputs that choose rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.frontends.index_inputs import take_whole_numbers
from edgeloop_converters.quantization import quantize_int8
from support.tiny_models import TinyBuilder


def lookup(**more: Any) -> Graph:
    """float [1, 6] cast to int32, rows of a table [20, 4], a dense layer. also: the input is read as it is, too."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    ids = b.tensor("ids", (1, 6), "int32")
    rows = b.op("GATHER", [b.constant("table", np.arange(80, dtype=np.float32).reshape(20, 4) / 80), ids], (1, 6, 4))
    outputs = [rows, b.dense(x, 2)] if more.get("also") else [rows]
    graph = b.finish(*outputs)
    from edgeloop.graph import Op

    graph.main.ops.insert(0, Op("CAST", [x], [ids]))
    return graph


def test_the_input_is_int32_and_answers_are_the_same() -> None:
    graph = lookup()
    before = graph.write()
    assert take_whole_numbers(graph) == (graph.main.inputs[0],)
    assert [op.name for op in graph.main.ops] == ["GATHER"]
    ids = np.array([[0, 1, 2, 17, 18, 19]])
    with open_session(before) as one, open_session(graph.write()) as other:
        assert other.inputs[0].dtype == np.int32
        np.testing.assert_array_equal(one.run(ids.astype(np.float32))[0], other.run(ids.astype(np.int32))[0])


@pytest.mark.parametrize("more", [{"also": True}])
def test_an_input_that_is_also_read_as_numbers_is_left(more: dict[str, Any]) -> None:
    graph = lookup(**more)
    assert take_whole_numbers(graph) == ()
    assert graph.inputs[0].dtype == "float32"


def test_an_input_that_nothing_reads_is_named_and_stops_no_quantization(tmp_path: Path) -> None:
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    b.input("unused", (1, 3))
    (tmp_path / "m.tflite").write_bytes(b.finish(b.dense(x, 2)).write())
    model = to_float_tflite(tmp_path / "m.tflite")
    assert "input 'unused' is read by no op of the model" in model.notes
    rng = np.random.default_rng(0)
    samples = [tuple(rng.normal(size=(1, n)).astype(np.float32) for n in (6, 3)) for _ in range(20)]
    made = quantize_int8(model.tflite, calibrate(model.tflite, samples))
    assert [t.dtype for t in Graph.read(made.tflite).inputs] == ["int8", "float32"]
