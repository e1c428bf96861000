"""Structured pruning end to end on the packaged digits model and tiny ones: plans, scores, widths, repair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DataError, GoalNotMetError, UsageError
from edgeloop.graph import Graph
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.passes import prune
from edgeloop_converters.passes.figures import figures, output_error, outputs
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.pruning import apply_prune, plan_prune
from edgeloop_converters.passes.pruning.answers import TEMPERATURE, refit_answers
from edgeloop_converters.passes.pruning.channels import find_channels
from edgeloop_converters.passes.pruning.scores import SCORES
from edgeloop_converters.passes.pruning.walk import Walk
from edgeloop_converters.passes.pruning.widths import Ranking, by_cost, options, rounded
from edgeloop_converters.quantization import quantize_int8
from support.tiny_models import RELU, TinyBuilder, tiny_cnn, tiny_residual

Samples = list[tuple[np.ndarray]]


def noise(count: int, size: int = 8) -> Samples:
    random = np.random.default_rng(0)
    return [(random.random((1, size, size, 3)).astype(np.float32),) for _ in range(count)]


def test_uniform_pruning_takes_the_filters_with_the_smallest_norm() -> None:
    graph = Graph.read(tiny_cnn())
    plan = plan_prune(graph, amount=0.5)
    weights = graph.constant(graph.main.ops[0], 1)
    assert weights is not None and weights.data is not None
    norms = np.abs(weights.data).reshape(8, -1).sum(axis=1)
    assert plan.groups[0].kept == tuple(sorted(np.argsort(norms)[4:].tolist()))
    assert "8 -> 4 channels" in plan.lines()[0] and "macs" in plan.lines()[-1]


def test_a_plan_predicts_what_applying_it_gives() -> None:
    graph = Graph.read(tiny_residual())
    plan = plan_prune(graph, goal=0.6, tile=2)
    pruned, report = apply_prune(graph, plan)
    assert figures(pruned) == {k: plan.after[k] for k in figures(pruned)}
    assert report.after["macs"] <= 0.6 * report.before["macs"]


def test_a_threshold_keeps_what_scores_above_it_in_whole_tiles() -> None:
    graph = Graph.read(tiny_cnn())
    weights = graph.constant(graph.main.ops[0], 1)
    assert weights is not None and weights.data is not None
    norms = np.sort(np.linalg.norm(weights.data.reshape(8, -1), axis=1))
    theta = float(norms[3] + norms[4]) / 2
    kept = [len(plan_prune(graph, threshold=theta, score="l2", tile=t).groups[0].kept) for t in (1, 3, 8)]
    assert kept == [4, 6, 8]


@pytest.mark.parametrize("score", sorted(SCORES))
def test_every_score_prunes_to_a_model_that_runs(score: str) -> None:
    graph = Graph.read(tiny_residual())
    gradients = lambda g: {t.name: np.ones(t.shape) for t in g.main.tensors if t.is_constant}  # noqa: E731
    pruned, report = prune(graph, amount=0.25, score=score, samples=noise(8), gradients=gradients)
    assert run_real(pruned.write(), noise(2))[0].shape[-1] == 4
    assert report.after["macs"] < report.before["macs"] and report.after["bytes"] < report.before["bytes"]


def test_filters_that_two_layers_share_are_merged_in_both() -> None:
    b = TinyBuilder(2)
    image = b.input("image", (1, 8, 8, 3))
    first, second = b.conv(image, 8), b.conv(image, 8)
    once = b.conv(first, 4)
    again = b.op("CONV_2D", [second, *b.sub.ops[-1].inputs[1:]], (1, 8, 8, 4), b.sub.ops[-1].options)
    graph = b.finish(b.softmax(b.dense(b.mean(b.add(once, again)), 3)))
    small, _ = prune(graph, samples=noise(16), amount=0.5, score="correlation", repair=False)
    assert {small.main.tensors[op.inputs[1]].shape[-1] for op in small.main.ops if op.name == "CONV_2D"} == {3, 4}
    assert np.isfinite(outputs(small, noise(4))[0]).all()


def test_the_last_layer_answers_by_class_where_least_squares_answers_by_score() -> None:
    random = np.random.default_rng(0)
    b = TinyBuilder(3)
    graph = b.finish(b.softmax(b.dense(b.dense(b.input("features", (1, 12)), 24, activation=RELU), 3)))
    samples = [(random.standard_normal((1, 12), np.float32) * 2,) for _ in range(400)]
    whole, held = Walk(graph, samples), outputs(graph, samples)[0]
    narrow, _ = prune(graph, samples=samples, amount=0.75, score="l1", repair=False)
    before = agreement_loss(narrow, samples, held)
    assert refit_answers(whole, Walk(narrow, samples), narrow, len(samples)) == 1
    assert agreement_loss(narrow, samples, held) < before
    assert refit_answers(whole, Walk(narrow, samples[:30]), narrow, 30) == 0, "too few to learn from"


def agreement_loss(graph: Graph, samples: Samples, wanted: np.ndarray) -> float:
    """Cross-entropy against softmax(wanted), at the temperature that is fitted."""
    from edgeloop_converters.passes.logistic import cross_entropy, softmax

    scores = outputs(graph, samples)[0].reshape(len(samples), -1) / TEMPERATURE
    return cross_entropy(scores.astype(float), softmax(wanted.reshape(len(samples), -1).astype(float) / TEMPERATURE))


def test_taylor_takes_the_channels_whose_loss_does_not_depend_on_them() -> None:
    graph = Graph.read(tiny_cnn())
    name = graph.main.tensors[graph.main.ops[0].inputs[1]].name
    slopes = np.zeros((8, 3, 3, 3))
    slopes[[1, 4, 6]] = graph.main.tensors[graph.main.ops[0].inputs[1]].data[[1, 4, 6]]
    plan = plan_prune(graph, widths={plan_prune(graph, amount=0).groups[0].name: 3}, score="taylor",
                      gradients=lambda _: {name: slopes})  # fmt: skip
    assert plan.groups[0].kept == (1, 4, 6)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_taylor_by_gradients_keeps_what_the_outputs_depend_on() -> None:
    """The group's first three channels are read with weights 100 times those of the others."""
    graph = Graph.read(tiny_cnn())
    group = find_channels(graph).groups[0]
    reader = next(i for i in group.consumers if graph.main.ops[i].name in ("CONV_2D", "FULLY_CONNECTED"))
    index = graph.main.ops[reader].inputs[1]
    weights = graph.main.tensors[index]
    assert weights.data is not None
    scaled = weights.data * np.where(np.arange(weights.shape[-1]) < 3, 1, 1e-4).astype(np.float32)
    graph.main.tensors[index] = replace(weights, data=scaled)
    samples = noise(8)
    labels = np.argmax([run_real(graph.write(), [sample])[0].ravel() for sample in samples], axis=1)
    for given in (None, labels):
        plan = plan_prune(graph, widths={group.name: 3}, score="taylor", samples=samples, labels=given)
        assert plan.groups[0].kept == (0, 1, 2)


def redundant(seed: int = 0) -> Graph:
    """A dense layer whose unit 3 is twice unit 1, and unit 5 a mixture of 0 and 2, before the ReLU kept positive."""
    b = TinyBuilder(seed)
    x = b.dense(b.input("features", (1, 10)), 8, activation=RELU)
    graph = b.finish(b.dense(x, 4))
    weight, bias = (graph.constant(graph.main.ops[0], p) for p in (1, 2))
    assert weight is not None and bias is not None and weight.data is not None and bias.data is not None
    weight.data, bias.data = np.abs(weight.data), np.abs(bias.data)
    weight.data[3], bias.data[3] = 2 * weight.data[1], 2 * bias.data[1]
    weight.data[5], bias.data[5] = weight.data[0] + weight.data[2], bias.data[0] + bias.data[2]
    return graph


def features(count: int) -> Samples:
    random = np.random.default_rng(1)
    return [(random.random((1, 10)).astype(np.float32),) for _ in range(count)]


def test_what_others_can_answer_for_goes_without_loss() -> None:
    graph = redundant()
    pruned, report = prune(graph, amount=0.25, samples=features(200))
    assert output_error(outputs(graph, features(50)), outputs(pruned, features(50))) < 1e-4
    assert report.after["output_error"] < 1e-4


def test_redundant_units_are_merged_without_solving_anything() -> None:
    graph = redundant()
    pruned, _ = prune(graph, amount=0.125, score="correlation", samples=features(100), repair=False)
    assert output_error(outputs(graph, features(50)), outputs(pruned, features(50))) < 1e-6


@pytest.fixture(scope="module")
def digits() -> tuple[Samples, Samples, np.ndarray]:
    split = load_split()
    train, test = (
        [(image.reshape(1, 8, 8, 1).astype(np.float32) / np.float32(255),) for image in images]
        for images in (split.train_images[:256], split.held_out_images)
    )
    return train, test, split.held_out_labels


def test_repair_brings_the_accuracy_back(digits_tflite: Path, digits: tuple[Samples, Samples, np.ndarray]) -> None:
    calibration, test, classes = digits
    graph = Graph.read(digits_tflite)
    right = {}
    for repair in (False, True):
        plan = plan_prune(graph, amount=0.4, score="l1", samples=calibration)
        pruned, _ = apply_prune(graph, plan, samples=calibration, repair=repair)
        right[repair] = float((run_real(pruned.write(), test)[0].reshape(len(test), -1).argmax(1) == classes).mean())
    assert right[True] > right[False] + 0.02 and right[True] > 0.9


def test_a_pruned_model_is_quantized_like_any_other(
    digits_tflite: Path, digits: tuple[Samples, Samples, np.ndarray]
) -> None:
    calibration = digits[0][:64]
    pruned, _ = prune(Graph.read(digits_tflite), amount=0.2, samples=calibration)
    model = pruned.write()
    packed = quantize_int8(model, calibrate(model, [s[0] for s in calibration])).tflite
    ours, theirs = (run_real(m, calibration)[0].reshape(64, -1).argmax(1) for m in (model, packed))
    assert (ours == theirs).mean() > 0.95


def test_widths_are_multiples_of_the_tile_or_the_whole() -> None:
    assert options(40, 16) == (40, 32, 16)
    assert options(16, 16) == (16,)
    assert options(160, 1)[:3] == (160, 150, 140)
    assert [rounded(w, 40, 16) for w in (40, 30, 20, 1)] == [40, 32, 16, 16]


def test_what_cannot_be_done_is_said() -> None:
    graph = Graph.read(tiny_cnn())
    with pytest.raises(UsageError, match="exactly one"):
        plan_prune(graph)
    with pytest.raises(UsageError, match="exactly one"):
        plan_prune(graph, amount=0.5, goal=0.5)
    with pytest.raises(UsageError, match="score 'l3' is not known"):
        plan_prune(graph, amount=0.5, score="l3")
    with pytest.raises(UsageError, match="'taylor' needs samples"):
        plan_prune(graph, amount=0.5, score="taylor")
    with pytest.raises(DataError, match="no samples"):
        plan_prune(graph, amount=0.5, score="apoz")
    with pytest.raises(GoalNotMetError, match="cannot be reached"):
        plan_prune(graph, goal=0.01)
    with pytest.raises(UsageError, match="0 <= amount < 1"):
        plan_prune(graph, amount=1.0)
    quantized = quantize_int8(graph.write(), calibrate(graph.write(), [s[0] for s in noise(4)])).tflite
    with pytest.raises(UsageError, match="takes a float one"):
        plan_prune(Graph.read(quantized), amount=0.5)
    with pytest.raises(UsageError, match="another model"):
        apply_prune(Graph.read(tiny_cnn(filters=16)), plan_prune(graph, amount=0.5))


def test_a_goal_is_reached_by_what_loses_least_per_cost_saved() -> None:
    """Group "b" costs twice as much per channel and loses as much: it goes first, down to its tile."""
    steady = Ranking(tuple(range(8)), tuple(i / 8 for i in range(9)), (1.0,) * 8)
    cost = lambda widths: widths["a"] + 2.0 * widths["b"]  # noqa: E731
    assert by_cost({"a": steady, "b": steady}, cost, 12.0, 2) == {"a": 8, "b": 2}
    with pytest.raises(GoalNotMetError, match="the least is 6"):
        by_cost({"a": steady, "b": steady}, cost, 5.0, 2)


def test_a_group_that_gets_dear_by_steps_is_left_for_others() -> None:
    """Loss that grows with its square: both groups share what has to go."""
    square = Ranking(tuple(range(8)), tuple((i / 8) ** 2 for i in range(9)), (1.0,) * 8)
    found = by_cost({"a": square, "b": square}, lambda w: float(w["a"] + w["b"]), 8.0, 1)
    assert abs(found["a"] - found["b"]) <= 1 and sum(found.values()) == 8
