"""What a walk keeps is what the whole model computes, however little it may keep and whatever changes meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop_converters.passes.pruning.refit import own_constants
from edgeloop_converters.passes.pruning.seen import values
from edgeloop_converters.passes.pruning.walk import Walk, changed_tensors
from support.tiny_models import tiny_residual

SAMPLES = [(row,) for row in np.random.default_rng(0).random((3, 1, 8, 8, 3)).astype(np.float32)]


def computed(graph: Graph) -> list[str]:
    return [graph.main.tensors[i].name for op in graph.main.ops for i in op.outputs]


@pytest.mark.parametrize("most_bytes", [0, 4096, 1 << 20])
def test_values_are_those_of_the_whole_model(most_bytes: int) -> None:
    graph = Graph.read(tiny_residual())
    walk = Walk(graph, SAMPLES, most_bytes=most_bytes)
    for name in (*computed(graph), *reversed(computed(graph)), graph.inputs[0].name):
        for found, wanted in zip(walk.values([name]), values(graph, [name], SAMPLES), strict=True):
            np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)


def test_after_a_change_only_what_came_before_it_is_kept() -> None:
    graph = own_constants(Graph.read(tiny_residual()))
    names = computed(graph)
    walk = Walk(graph, SAMPLES)
    before = walk.stacked(names)
    second = graph.main.ops[1]
    weights = graph.constant(second, 1)
    assert weights is not None and weights.data is not None
    weights.data = weights.data * 2
    walk.forget(names[1])
    after = walk.stacked(names)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_allclose(after[-1], Walk(graph, SAMPLES).stacked(names[-1:])[0], atol=1e-5)
    assert not np.array_equal(before[1], after[1])


def test_a_fork_shares_what_is_the_same_in_both_models() -> None:
    graph = Graph.read(tiny_residual())
    other = own_constants(graph)
    weights = other.constant(other.main.ops[1], 1)
    assert weights is not None and weights.data is not None
    weights.data = weights.data + 1
    names = computed(graph)
    assert names[0] not in changed_tensors(graph, other)
    assert {names[1], names[-1]} <= changed_tensors(graph, other)
    walk = Walk(graph, SAMPLES)
    walk.stacked(names)
    for found, wanted in zip(walk.fork(other).stacked(names), Walk(other, SAMPLES).stacked(names), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_samples_it_says_so() -> None:
    with pytest.raises(DataError):
        Walk(Graph.read(tiny_residual()), [])
