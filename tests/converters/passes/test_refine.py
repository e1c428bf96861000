"""Refinement as a whole: better on samples it did not see, the same ops, or the very same file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.graph import Graph
from edgeloop.graph.parts import cut
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.packed import PackedModel, run_real, score_names
from edgeloop_converters.passes.range_search import search_ranges
from edgeloop_converters.passes.refine import Effort, Refined, refine, samples_wanted, speaks_against
from edgeloop_converters.passes.softmax_floor import floor_softmax_inputs
from edgeloop_converters.pipeline import convert
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.recipe import Recipe
from support.tiny_models import TinyBuilder, tiny_cnn, tiny_two_inputs

Samples = list[tuple[np.ndarray]]


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


def digits(images: np.ndarray) -> Samples:
    return [((image[None, ..., None] / 255).astype(np.float32),) for image in images]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return digits(load_split().train_images[:100])


@pytest.fixture(scope="module")
def ranges(model: bytes, samples: Samples) -> Ranges:
    return calibrate(model, samples, method="min-max")


@pytest.fixture(scope="module")
def packed(model: bytes, ranges: Ranges) -> bytes:
    return quantize_int8(model, ranges).tflite


@pytest.fixture(scope="module")
def refined(model: bytes, packed: bytes, ranges: Ranges, samples: Samples) -> Refined:
    return refine(model, packed, ranges, samples)


def test_the_error_falls_on_samples_never_seen(model: bytes, packed: bytes, refined: Refined) -> None:
    error = OutputError(model, digits(load_split().held_out_images[:200]), visible_only=True)
    assert error.of_graph(Graph.read(refined.tflite)) < error.of_graph(Graph.read(packed))


def test_only_constants_change(packed: bytes, refined: Refined) -> None:
    before, after = Graph.read(packed), Graph.read(refined.tflite)
    assert refined.tflite != packed
    assert [(o.name, o.version, o.inputs, o.outputs) for o in before.main.ops] == [
        (o.name, o.version, o.inputs, o.outputs) for o in after.main.ops
    ]
    assert [(t.name, t.shape, t.dtype, t.is_per_channel) for t in before.main.tensors] == [
        (t.name, t.shape, t.dtype, t.is_per_channel) for t in after.main.tensors
    ]
    assert before.signatures == after.signatures
    for old, new in zip([*before.inputs, *before.outputs], [*after.inputs, *after.outputs], strict=True):
        assert old.affine == new.affine


def test_every_pass_says_what_it_gained(refined: Refined) -> None:
    reports = refined.refinement.reports
    assert [r.name for r in reports] == ["equalization", "weight rounding", "range search", "softmax floor"]
    for report in reports[1:]:
        if report.after["error"] < report.before["error"]:
            assert report.accepted
    for report in reports:
        assert report.seconds > 0
        assert report.name in report.note()
        assert report.to_dict()["accepted"] == report.accepted


def test_the_refinement_goes_through_the_packer_too(model: bytes, refined: Refined, samples: Samples) -> None:
    again = quantize_int8(refined.float_model or model, refined.refinement.ranges, refinement=refined.refinement).tflite
    error = OutputError(model, samples)
    ours, theirs = error.of_graph(Graph.read(refined.tflite)), error.of_graph(Graph.read(again))
    assert theirs == pytest.approx(ours, rel=0.1)


def test_what_does_not_help_is_dropped(
    model: bytes, packed: bytes, ranges: Ranges, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutputError, "per_sample", lambda self, model: np.ones(100))
    monkeypatch.setattr("edgeloop_converters.passes.equalization.varying_errors", lambda *_: (1.0, 1.0))
    done = refine(model, packed, ranges, samples)
    assert done.tflite == packed
    assert done.refinement.ranges == ranges
    assert not done.refinement.weights
    assert all("not kept" in r.note() for r in done.refinement.reports)


def test_many_samples_are_judged_by_what_the_passes_did_not_see(
    model: bytes, packed: bytes, ranges: Ranges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeloop_converters.passes.refine.EFFORTS", {"default": Effort(60.0, 40, 20, 500, 1e9)})
    done = refine(model, packed, ranges, digits(load_split().train_images[:64]))
    assert "held_out_error" in done.refinement.reports[1].before


def test_few_samples_that_judge_are_not_taken_for_more_than_they_show() -> None:
    random = np.random.default_rng(0)
    before = random.gamma(2, 1, 12)
    assert not speaks_against(before, before - 0.1)
    assert not speaks_against(before, before + random.normal(0.05, 1.0, 12))
    assert speaks_against(before, before + random.normal(0.05, 0.01, 12))
    assert speaks_against(before, before)


def test_inner_tensors_stand_for_those_of_the_model_that_comes_with_them(model: bytes, refined: Refined) -> None:
    twin = Graph.read(refined.float_model or model)
    inputs = digits(load_split().held_out_images[:20])
    assert np.abs(run_real(twin.write(), inputs)[0] - run_real(model, inputs)[0]).max() < 1e-4
    name = next(t.name for op in twin.main.ops if op.name == "CONV_2D" for t in (twin.main.tensors[op.outputs[0]],))
    ours, theirs = (run_real(cut(g, [name]), inputs)[0] for g in (Graph.read(refined.tflite), twin))
    assert np.abs(ours - theirs).mean() < 0.05 * theirs.std()


def test_a_model_that_cannot_be_looked_into_is_left_alone(
    model: bytes, packed: bytes, ranges: Ranges, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Node number 3 (WHILE) failed to prepare.\nmore noise")

    monkeypatch.setattr("edgeloop_converters.passes.refine.round_weights", fail)
    done = refine(model, packed, ranges, samples)
    assert done.tflite == packed
    assert done.refinement.reports[0].detail == "gave up: Node number 3 (WHILE) failed to prepare."


def test_ranges_stay_where_a_bias_is_shared() -> None:
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    first = b.dense(x, 6)
    b.dense(first, 6)
    second = b.sub.ops[-1]
    second.inputs[2] = b.sub.ops[0].inputs[2]
    model = b.finish(b.softmax(b.dense(second.outputs[0], 3))).write()
    samples = [(row[None],) for row in np.random.default_rng(0).random((40, 6), np.float32)]
    ranges = calibrate(model, samples)
    packed = quantize_int8(model, ranges).tflite
    before, after = (OutputError(model, samples).of_graph(Graph.read(f)) for f in (
        packed, refine(model, packed, ranges, samples).tflite))  # fmt: skip
    assert after <= 1.05 * before


def test_a_budget_of_nothing_leaves_the_model(model: bytes, packed: bytes, ranges: Ranges, samples: Samples) -> None:
    assert refine(model, packed, ranges, samples, budget_s=0.0).tflite == packed


def test_too_few_samples_and_nothing_to_search(model: bytes, packed: bytes, ranges: Ranges, samples: Samples) -> None:
    few = refine(model, packed, ranges, samples[:8])
    assert (few.tflite, few.refinement.reports[0].accepted) == (packed, False)
    adder = tiny_two_inputs()
    pairs = [tuple(np.random.default_rng(i).random((2, 1, 4), np.float32)) for i in range(24)]
    found = calibrate(adder, pairs)
    done = refine(adder, quantize_int8(adder, found).tflite, found, pairs)
    assert "free" in done.refinement.reports[0].detail


def test_the_same_seed_gives_the_same_file(
    model: bytes, packed: bytes, ranges: Ranges, samples: Samples, refined: Refined
) -> None:
    assert refine(model, packed, ranges, samples).tflite == refined.tflite


def test_a_host_ten_times_as_slow_gives_the_same_file(
    model: bytes, packed: bytes, ranges: Ranges, samples: Samples, refined: Refined, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic
    start = clock()
    monkeypatch.setattr("time.monotonic", lambda: start + 10 * (clock() - start))
    assert refine(model, packed, ranges, samples).tflite == refined.tflite


def test_the_search_never_raises_the_error(model: bytes, packed: bytes, ranges: Ranges, samples: Samples) -> None:
    candidate = PackedModel(model, packed, ranges)
    error = OutputError(model, samples[:20], typical=True)
    report = search_ranges(candidate, error)
    assert report.after["output_error"] <= report.before["output_error"]
    assert error.of(candidate) == pytest.approx(report.after["output_error"])


def test_edited_scales_are_those_the_packer_would_write(model: bytes, packed: bytes, ranges: Ranges) -> None:
    candidate = PackedModel(model, packed, ranges)
    assert candidate.groups
    for group in candidate.groups:
        low, high = candidate.range_of(group)
        candidate.set_range(group, (low * 0.8, high * 0.7))
    edited = Graph.read(candidate.write())
    again = Graph.read(quantize_int8(model, Ranges(candidate.ranges, ranges.samples)).tflite)
    for ours, theirs in zip(edited.main.tensors, again.main.tensors, strict=True):
        assert ours.name == theirs.name
        if ours.quantization is not None and theirs.quantization is not None:
            assert ours.quantization.scale == pytest.approx(theirs.quantization.scale, rel=1e-5)
            assert np.array_equal(ours.quantization.zero_point, theirs.quantization.zero_point)
        if ours.data is not None and theirs.data is not None and ours.dtype == "int32":
            assert np.abs(ours.data.astype(np.int64) - theirs.data).max(initial=0) <= 1


def test_outputs_are_judged_before_the_softmax() -> None:
    graph = Graph.read(tiny_cnn())
    assert score_names(graph) == (graph.main.tensors[graph.main.ops[-1].inputs[0]].name,)


def test_no_more_samples_are_kept_than_looked_at() -> None:
    assert samples_wanted(100, "default") == 100
    assert samples_wanted(50_000, "default") < 256


def spread_classes() -> tuple[bytes, Samples]:
    """One dense layer with a class far below all others, and samples for it."""
    b = TinyBuilder(0)
    out = b.dense(b.input("x", (1, 6)), 4)
    graph = b.finish(b.softmax(out))
    bias = graph.constant(graph.main.ops[0], 2)
    assert bias is not None
    bias.data = np.array([3.0, 3.5, 2.5, -60.0], np.float32)
    return graph.write(), [(row[None],) for row in np.random.default_rng(1).random((40, 6), np.float32)]


def test_codes_are_not_spent_on_classes_that_a_softmax_cannot_show() -> None:
    model, samples = spread_classes()
    ranges = calibrate(model, samples)
    candidate = PackedModel(model, quantize_int8(model, ranges).tflite, ranges)
    before = OutputError(model, samples, visible_only=True).of(candidate)
    report = floor_softmax_inputs(candidate, samples)
    assert report.detail.startswith("lower end -")
    (group,) = candidate.groups
    low, high = candidate.range_of(group)
    assert -10 < low < 0 < high
    assert OutputError(model, samples, visible_only=True).of(candidate) < 0.1 * before
    assert floor_softmax_inputs(candidate, samples).detail == "nothing to cut"


def test_the_softmax_floor_is_judged_by_what_can_be_seen() -> None:
    model, samples = spread_classes()
    ranges = calibrate(model, samples)
    done = refine(model, quantize_int8(model, ranges).tflite, ranges, samples)
    floor = done.refinement.reports[-1]
    assert (floor.name, floor.accepted) == ("softmax floor", True)


@pytest.mark.slow
def test_convert_refines_at_the_default_effort_and_reports_it(digits_tflite: Path, tmp_path: Path) -> None:
    split = load_split()
    for name, images, labels in (
        ("train.npz", split.train_images[:60], split.train_labels[:60]),
        ("test.npz", split.held_out_images[:40], split.held_out_labels[:40]),
    ):
        np.savez(tmp_path / name, x=images, y=labels)
    contract = Contract(
        (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
        OutputSpec("classification", tuple("0123456789")),
    )
    data = (str(tmp_path / "train.npz"), str(tmp_path / "test.npz"))
    recipe = Recipe(str(digits_tflite), "generic-aarch64", *data, contract)
    done = convert(recipe)
    reports = done.report["refinement"]
    assert [r["name"] for r in reports] == [
        "equalization", "weight rounding", "range search", "softmax floor", "decisions",
    ]  # fmt: skip
    assert any(note.startswith("weight rounding: ") for note in done.report["notes"])
    fast = convert(replace(recipe, effort="fast"))
    assert fast.report["refinement"] == []
    ours, plain = (Graph.read(r.variants[0].model) for r in (done, fast))
    assert [op.name for op in ours.main.ops] == [op.name for op in plain.main.ops]
    assert len(done.variants[0].model) == len(fast.variants[0].model)
