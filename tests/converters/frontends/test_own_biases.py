"""Layers without a bias share a constant of zeros in a converter's file; here each has its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeloop.graph import Graph
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.pruning import plan_prune
from support.interpreting import run
from support.tiny_models import TinyBuilder


def test_layers_that_shared_zeros_are_pruned_on_their_own(tmp_path: Path) -> None:
    b = TinyBuilder(0)
    x = b.conv(b.conv(b.input("image", (1, 8, 8, 3)), 8), 8)
    first, second = b.sub.ops
    zeros = b.constant("zeros", np.zeros(8, np.float32))
    first.inputs[2] = second.inputs[2] = zeros
    graph = b.finish(b.softmax(b.dense(b.mean(x), 4)))
    assert [group.width for group in plan_prune(graph, amount=0.5).groups] == [8]
    (tmp_path / "shared.tflite").write_bytes(graph.write())
    model = to_float_tflite(tmp_path / "shared.tflite").tflite
    assert [group.width for group in plan_prune(Graph.read(model), amount=0.5).groups] == [8, 8]
    assert np.array_equal(run(model)[0], run(graph.write())[0])
    assert len(model) < len(graph.write()) + 500
