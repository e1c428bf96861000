"""Pruning: by threshold, of weights, of channels (filters), units (neurons) and layers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop_converters.passes import prune, prune_blocks, sparsify
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.pruning import plan_prune
from edgeloop_converters.passes.pruning.elimination import Consumer, eliminate
from edgeloop_converters.passes.pruning.scores import explained
from support.tiny_models import RELU, TinyBuilder, tiny_cnn, tiny_mlp, tiny_residual

Samples = list[tuple[np.ndarray]]


def samples(shape: tuple[int, ...], count: int = 8) -> Samples:
    random = np.random.default_rng(0)
    return [(random.random(shape).astype(np.float32),) for _ in range(count)]


def weights(graph: Graph, op: int) -> np.ndarray:
    tensor = graph.constant(graph.main.ops[op], 1)
    assert tensor is not None and tensor.data is not None
    return np.asarray(tensor.data)


@pytest.mark.parametrize("theta", [0.5, 1.0, 1.4, 2.0])
def test_channels_stay_whose_norm_is_above_theta(theta: float) -> None:
    """Keep c where ||w_c||_2 > theta (one at least)."""
    graph = Graph.read(tiny_cnn())
    norms = np.linalg.norm(weights(graph, 0).reshape(8, -1), axis=1)
    kept = plan_prune(graph, threshold=theta, score="l2").groups[0].kept
    above = np.flatnonzero(norms > theta)
    assert list(kept) == (above.tolist() if above.size else [int(norms.argmax())])


def test_weights_stay_whose_magnitude_is_above_tau() -> None:
    """W' = W where |W| > tau, else 0."""
    graph = Graph.read(tiny_mlp())
    sparse, _ = sparsify(graph, threshold=0.3)
    for op in (0, 1):
        w = weights(graph, op)
        assert np.array_equal(weights(sparse, op), np.where(np.abs(w) > 0.3, w, 0))


def test_a_unit_goes_with_its_row_its_bias_and_the_column_that_reads_it() -> None:
    """Unit (neuron) pruning: dense 10 -> 16 -> 3 becomes 10 -> 12 -> 3."""
    pruned, _ = prune(Graph.read(tiny_mlp(hidden=16)), amount=0.25)
    assert [weights(pruned, op).shape for op in (0, 1)] == [(12, 10), (3, 12)]
    bias = pruned.constant(pruned.main.ops[0], 2)
    assert bias is not None and bias.shape == (12,)


def test_filters_of_a_cnn_of_1_32_64_128_10_go_through_all_its_layers() -> None:
    """Half of every hidden width: the work of an inner layer falls to (1/2)^2."""
    b = TinyBuilder(0)
    x = b.input("image", (1, 16, 16, 1))
    for filters in (32, 64, 128):
        x = b.conv(x, filters, stride=2, activation=RELU)
    graph = b.finish(b.softmax(b.dense(b.mean(x), 10)))
    pruned, report = prune(graph, amount=0.5)
    assert [weights(pruned, i).shape[::3] for i in range(3)] == [(16, 1), (32, 16), (64, 32)]
    assert weights(pruned, 4).shape == (10, 64)
    inner = 9 * (4 * 4 * 64 * 32 + 2 * 2 * 128 * 64)
    first, dense = 9 * 8 * 8 * 32, 128 * 10
    assert report.before["macs"] == inner + first + dense
    assert report.after["macs"] == inner / 4 + first / 2 + dense / 2


def test_a_layer_or_branch_goes_as_a_whole() -> None:
    graph = Graph.read(tiny_residual())
    pruned, report = prune_blocks(graph, samples=samples((1, 8, 8, 3)), count=1)
    assert [op.name for op in pruned.main.ops].count("CONV_2D") == 1
    assert report.after["macs"] < report.before["macs"] / 3


def test_the_increase_of_the_error_is_exact() -> None:
    """min ||Y - X_k V||^2 - min ||Y - X V||^2 = tr(W_S^T ((H^-1)_SS)^-1 W_S)."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.standard_normal((400, 6)), np.ones((400, 1))], axis=1)
    w = random.standard_normal((7, 3))
    y = x @ w
    found = eliminate([Consumer(x.T @ x, w, np.arange(6).reshape(3, 2))], fewest=1)
    varies = float(np.square(y - y.mean(axis=0)).sum())
    live = [0, 1, 2]
    for gone, loss in zip(found.order, found.loss[1:], strict=True):
        live.remove(gone)
        columns = [c for channel in live for c in (2 * channel, 2 * channel + 1)] + [6]
        best = np.linalg.lstsq(x[:, columns], y, rcond=None)[0]
        assert loss * varies == pytest.approx(float(np.square(y - x[:, columns] @ best).sum()), rel=1e-3)


def test_of_two_correlated_filters_one_explains_the_other() -> None:
    """cov(a, b)^2 / (var(a) var(b)) is the share of a's variance that b explains."""
    random = np.random.default_rng(0)
    a = random.standard_normal(2000)
    values = np.stack([a, 3 * a + 1, random.standard_normal(2000), np.ones(2000)], axis=1)
    share, _ = explained(values.T @ values / 2000)
    assert share[0, 1] == pytest.approx(1.0)
    assert share[0, 2] == pytest.approx(np.corrcoef(a, values[:, 2])[0, 1] ** 2, abs=1e-9)


def test_work_and_memory_fall() -> None:
    """Comp(G') < Comp(G), Mem(G') < Mem(G)."""
    graph = Graph.read(tiny_cnn())
    pruned, report = prune(graph, amount=0.5)
    assert report.after["macs"] < report.before["macs"]
    assert report.after["peak_memory_bytes"] < report.before["peak_memory_bytes"]
    assert run_real(pruned.write(), samples((1, 8, 8, 3), 1))[0].shape == (1, 1, 4)
