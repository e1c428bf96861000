"""Unstructured pruning: which weights become 0, the schedule, and that only the compressed size is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop_converters.passes import sparsify
from edgeloop_converters.passes.pruning.sparsity import scheduled, weights_of, zeroed
from support.tiny_models import tiny_cnn


def flat(graph: Graph) -> np.ndarray:
    return np.concatenate([np.asarray(t.data).ravel() for t in weights_of(graph)])


def test_weights_at_or_below_the_threshold_become_zero() -> None:
    assert zeroed(np.array([-0.3, 0.2, 0.1, 0.31], np.float32), 0.3).tolist() == [
        pytest.approx(-0.3) if abs(np.float32(-0.3)) > 0.3 else 0.0, 0.0, 0.0, pytest.approx(0.31),
    ]  # fmt: skip
    graph = Graph.read(tiny_cnn())
    sparse, _ = sparsify(graph, threshold=0.2)
    before, after = flat(graph), flat(sparse)
    assert (after == np.where(np.abs(before) > 0.2, before, 0)).all()


@pytest.mark.parametrize("by_layer", [False, True])
def test_an_amount_takes_the_smallest(by_layer: bool) -> None:
    graph = Graph.read(tiny_cnn())
    sparse, report = sparsify(graph, amount=0.6, by_layer=by_layer)
    assert report.after["sparsity"] == pytest.approx(0.6, abs=0.02)
    if by_layer:
        assert all((np.asarray(t.data) == 0).mean() == pytest.approx(0.6, abs=0.05) for t in weights_of(sparse))
    assert report.after["xz_bytes"] < report.before["xz_bytes"]


def test_only_size_is_claimed_and_latency_is_spoken_of() -> None:
    progress = SilentProgress()
    _, report = sparsify(Graph.read(tiny_cnn()), amount=0.5, progress=progress)
    assert set(report.after) == {"sparsity", "xz_bytes"}
    assert "latency does not move" in progress.notes[0] and "not the latency" in report.note()


def test_a_schedule_ends_at_the_amount_and_zeroes_again_what_tuning_filled() -> None:
    assert scheduled(4, 4, 0.8) == 0.8
    steps = [scheduled(i, 4, 0.8) for i in range(5)]
    assert steps[0] == 0.0 and np.all(np.diff(steps, 2) < 0)
    tuned: list[float] = []

    def tune(graph: Graph) -> Graph:
        tuned.append(float((flat(graph) == 0).mean()))
        fresh = graph.copy()
        for tensor in weights_of(fresh):
            tensor.data = np.asarray(tensor.data) + np.float32(1e-4)
        return fresh

    sparse, _ = sparsify(Graph.read(tiny_cnn()), amount=0.8, steps=4, tune=tune)
    assert tuned == sorted(tuned) and len(tuned) == 4
    assert (flat(sparse) == 0).mean() == pytest.approx(0.8, abs=0.02)


def test_what_cannot_be_done_is_said() -> None:
    graph = Graph.read(tiny_cnn())
    for wrong in ({}, {"amount": 0.5, "threshold": 0.1}, {"amount": 1.0}, {"threshold": 0.1, "steps": 2}):
        with pytest.raises(UsageError):
            sparsify(graph, **wrong)  # type: ignore[arg-type]
