"""`quantize` as a pass: a float graph in, a quantized one and its report out."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.passes import quantize
from support.tiny_models import tiny_cnn


def samples(count: int) -> list[tuple[np.ndarray]]:
    return [(x,) for x in np.random.default_rng(0).random((count, 1, 8, 8, 3)).astype(np.float32)]


@pytest.mark.parametrize("effort", ["fast", "default"])
def test_an_int8_graph_comes_out_and_the_float_one_stays(effort: str) -> None:
    graph = Graph.read(tiny_cnn())
    made, report = quantize(graph, samples=samples(24), effort=effort)
    assert {str(info.dtype) for info in open_session(made.write()).inputs} == {"int8"}
    assert report.after["bytes"] < report.before["bytes"]
    assert "int8, 24 samples" in report.note()
    assert graph.write() == Graph.read(tiny_cnn()).write()


def test_weights_alone_need_no_samples() -> None:
    made, report = quantize(Graph.read(tiny_cnn()), scheme="dynamic")
    assert {str(info.dtype) for info in open_session(made.write()).inputs} == {"float32"}
    assert report.detail == "dynamic"


def test_what_cannot_be_done_is_said_in_one_line() -> None:
    graph = Graph.read(tiny_cnn())
    with pytest.raises(DataError, match="int8 needs samples"):
        quantize(graph)
    with pytest.raises(UsageError, match="effort 'much' is not known"):
        quantize(graph, samples=samples(1), effort="much")
    with pytest.raises(UsageError, match="no option 'bits'"):
        quantize(graph, samples=samples(1), bits=4)
    with pytest.raises(UsageError, match="leaves the model as it is"):
        quantize(graph, scheme="float")
    with pytest.raises(UsageError):
        quantize(graph, scheme="int7")
