"""Whole branches and layers: what can go, that the right one goes, and that the rest answers for it."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.errors import GoalNotMetError, UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes import prune_blocks
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.pruning.blocks import find_blocks, without_block
from support.tiny_models import NONE, TinyBuilder, tiny_residual

Samples = list[tuple[np.ndarray]]


def two_blocks(strong: int) -> Graph:
    """Two identity blocks; the branch of the one that is not `strong` hardly does anything."""
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 8, 8, 3)), 8)
    for n in range(2):
        weights = len(b.sub.tensors)
        x = b.add(b.conv(b.conv(x, 8), 8, activation=NONE), x)
        if n != strong:
            for tensor in b.sub.tensors[weights:]:
                if tensor.name.endswith("weights"):
                    tensor.data = np.asarray(tensor.data) * np.float32(0.05)
    return b.finish(b.softmax(b.dense(b.mean(x), 4)))


def noise(count: int) -> Samples:
    random = np.random.default_rng(0)
    return [(random.random((1, 8, 8, 3)).astype(np.float32),) for _ in range(count)]


def test_a_branch_is_what_only_leads_to_one_addend() -> None:
    [block] = find_blocks(Graph.read(tiny_residual()))
    assert block.kind == "branch"
    assert [b.kind for b in find_blocks(Graph.read(tiny_residual()), layers=True)].count("layer") == 2


def test_without_its_branch_a_sum_is_the_other_addend() -> None:
    graph = Graph.read(tiny_residual())
    narrow = without_block(graph, find_blocks(graph)[0])
    assert [op.name for op in narrow.main.ops] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert run_real(narrow.write(), noise(1))[0].shape == (1, 1, 4)


@pytest.mark.parametrize("strong", [0, 1])
def test_the_block_that_does_least_goes(strong: int) -> None:
    graph = two_blocks(strong)
    kept = find_blocks(graph)[strong]
    pruned, report = prune_blocks(graph, samples=noise(40), count=1)
    assert [b.branch for b in find_blocks(pruned)] == [kept.branch]
    assert report.after["output_error"] < 0.05 and report.after["macs"] < 0.7 * report.before["macs"]


def test_a_goal_is_met_or_said_to_be_out_of_reach() -> None:
    graph = two_blocks(0)
    _, report = prune_blocks(graph, samples=noise(8), goal=0.65)
    assert report.after["macs"] <= 0.65 * report.before["macs"]
    with pytest.raises(GoalNotMetError, match="2 gone"):
        prune_blocks(graph, samples=noise(8), goal=0.01)
    with pytest.raises(UsageError, match="exactly one"):
        prune_blocks(graph, samples=noise(8))
