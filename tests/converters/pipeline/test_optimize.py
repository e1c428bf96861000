"""`--optimize`: a smaller model within the goals, chosen on samples that are neither learnt from nor evaluated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.devices import measurers
from edgeloop.errors import ConfigError
from edgeloop_converters import pipeline
from edgeloop_converters.data import open_data
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.gate import Gate
from edgeloop_converters.goals import Goals
from edgeloop_converters.measure import Candidate, Measured, Measuring, measure
from edgeloop_converters.optimizing import doubt_of, settled, with_validation
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import load_recipe, parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.sources import Datasets, Sources
from support.tiny_models import TinyBuilder

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


@pytest.fixture
def recipe(digits_tflite: Path, tmp_path: Path) -> Recipe:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:300], y=split.held_out_labels[:300])
    return Recipe(
        str(digits_tflite), "generic-x86-64", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), CONTRACT,
        passes=plan_passes("int8", "aeq", "fast"), effort="fast", optimize="size", goals=Goals(max_drop=0.05),
    )  # fmt: skip


@pytest.mark.slow
def test_the_bundle_has_the_smaller_variant_first_and_the_whole_one_beside_it(recipe: Recipe, tmp_path: Path) -> None:
    result = convert(recipe)
    assert result.gate.passed, result.gate.reasons
    assert [variant.name for variant in result.variants][:2] == ["int8-lite", "int8"]
    lite, whole = result.variants[:2]
    assert len(lite.model) < len(whole.model)
    assert any(note.startswith("trial at 80%") for note in result.notes)
    assert any(note.startswith("strategy: int8-lite is the model at") for note in result.notes)
    again = parse_recipe(Bundle.open(result.bundle.save(tmp_path / "d.bundle")).recipe())
    assert (again.optimize, again.float_passes) == ("size", ())
    result.save_recipe(tmp_path / "found.toml")
    found = load_recipe(tmp_path / "found.toml")
    assert [step.name for step in found.float_passes][-1] == "prune"
    same = convert(found)
    assert same.variants[0].model == lite.model, "the recipe that was found, without a search"


@pytest.mark.slow
def test_where_the_evaluation_data_speak_against_the_smallest_the_next_larger_one_takes_its_place(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def strict(candidate: Candidate, how: Measuring) -> Measured:
        measured = measure(candidate, how)
        seen.append(len(candidate.exported.model))
        return replace(measured, gate=Gate(False, ("bad answers",))) if len(seen) == 1 else measured

    monkeypatch.setattr(pipeline, "measure", strict)
    result = convert(replace(recipe, goals=Goals(max_drop=0.3)))
    assert result.gate.passed and result.variants[0].name == "int8-lite"
    assert len(result.variants[0].model) == seen[-1] > seen[0]
    search = result.to_dict()["search"]
    taken = next(trial for trial in search["trials"] if trial["name"] == search["chosen"])
    assert not taken["missed"] and taken["share"] > min(trial["share"] for trial in search["trials"])
    assert any("the next larger one" in note for note in result.notes)


@pytest.mark.slow
def test_a_devices_latency_decides_and_goes_into_the_bundle(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine stands for the device, which it is refused to be for users."""
    monkeypatch.setattr(measurers, "check_measures", lambda url: None)
    recipe = replace(recipe, goals=Goals(max_drop=0.05, p95_ms=10_000), minutes=60.0)
    result = convert(recipe, device="local:")
    found = result.to_dict()["search"]
    holding = [t for t in found["trials"] if not t["missed"]]
    fastest = min(holding, key=lambda t: t["measured"]["value"])
    assert found["chosen"] == fastest["name"]
    lite = result.variants[0]
    assert lite.profile is not None
    assert lite.profile.p50_ms == fastest["measured"]["value"]
    assert all(not v.gate.unverified for v in result.variants), "a latency goal is judged by the device"
    assert any(note.startswith("measured: int8: ") and "ms on local" in note for note in result.notes)


def test_what_misses_a_goal_is_left_out_where_another_variant_meets_it() -> None:
    def measured(name: str, *reasons: str) -> SimpleNamespace:
        exported = SimpleNamespace(name=name, scheme="float" if name == "float" else "int8")
        return SimpleNamespace(candidate=SimpleNamespace(exported=exported), gate=Gate(not reasons, reasons))

    lite, whole, float_ = measured("int8-lite"), measured("int8", "too many bytes"), measured("float", "far too many")
    kept, said = settled([lite, whole, float_])  # type: ignore[list-item]
    assert kept == (lite,)
    assert said == ("strategy: int8 is left out: too many bytes", "strategy: float is left out: far too many")
    kept, said = settled([measured("int8-lite", "bad answers"), whole, float_])  # type: ignore[list-item]
    assert kept == (whole,), "where none meets all, the whole int8 model is judged"
    assert len(said) == 2


@pytest.mark.slow
def test_a_model_whose_channels_all_must_stay_is_converted_all_the_same(recipe: Recipe, tmp_path: Path) -> None:
    split, b = load_split(), TinyBuilder(0)
    x = b.input("x", (1, 64))
    (tmp_path / "two.tflite").write_bytes(b.finish(b.softmax(b.dense(x, 10)), b.dense(x, 10)).write())
    pixels = split.train_images[:300].reshape(300, 64).astype(np.float32)
    np.savez(tmp_path / "flat.npz", x=pixels, y=split.train_labels[:300])
    contract = Contract(
        (InputSpec("x", "tensor", shape=(64,), mean=(0.0,), std=(255.0,)),),
        OutputSpec("classification", tuple("0123456789")),
    )
    flat = replace(recipe, source=str(tmp_path / "two.tflite"), data=str(tmp_path / "flat.npz"), evaluation=None)
    result = convert(replace(flat, contract=contract, goals=Goals(min_agreement=0.0)))
    assert "int8" in [variant.name for variant in result.variants]
    assert any("no channels of this model can be removed" in note for note in result.notes)
    assert any("no smaller model could be made" in note for note in result.notes)


@pytest.mark.slow
def test_where_the_time_is_up_before_the_first_trial_the_whole_model_is_there(recipe: Recipe) -> None:
    result = convert(replace(recipe, minutes=1e-6))
    assert result.gate.passed
    assert [variant.name for variant in result.variants][:1] == ["int8"]
    assert any("the time is up: no more trials" in note for note in result.notes)
    assert any("no trial came to its end in that time" in note for note in result.notes)


def test_nothing_is_chosen_by_samples_that_were_learnt_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((500, 4), np.float32), y=np.arange(500) % 5)
    np.savez(tmp_path / "b.npz", x=np.zeros((50, 4), np.float32), y=np.arange(50) % 5)
    data = Datasets(open_data(str(tmp_path / "a.npz")), open_data(str(tmp_path / "b.npz")))
    sources = with_validation(Sources(CONTRACT, data, np.arange(0, 500, 5), np.arange(50), (), ()), seed=0)
    assert len(sources.validation) == 80
    assert not set(sources.validation) & set(sources.learnable)
    assert not set(sources.validation) & set(sources.calibration)
    assert len(sources.calibration) == 100, "there are enough others"
    few = with_validation(Sources(CONTRACT, data, np.arange(500), np.arange(50), (), ()), seed=0)
    assert (len(few.validation), len(few.calibration), len(few.learnable)) == (100, 400, 400)
    assert not set(few.validation) & set(few.calibration)


def test_few_samples_to_judge_by_are_said() -> None:
    assert "on 20 samples only, each of which is 5.0 pt" in doubt_of(20)
    assert "on 0 samples only:" in doubt_of(0)
    assert doubt_of(200) == ""


def test_what_no_smaller_model_is_looked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="smaller int8 model of one shape"):
        Recipe("m.tflite", passes=(), optimize="size")
    with pytest.raises(ConfigError, match="'speed' is not known"):
        Recipe("m.tflite", optimize="speed")
