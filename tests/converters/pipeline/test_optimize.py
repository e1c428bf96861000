"""`--optimize`: a smaller model within the goals, chosen on samples that are neither learnt from nor evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError
from edgeloop_converters.data import open_data
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.goals import Goals
from edgeloop_converters.optimizing import doubt_of, with_validation
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.sources import Datasets, Sources

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
    assert [variant.name for variant in result.variants] == ["int8-lite", "int8"]
    lite, whole = result.variants
    assert len(lite.model) < len(whole.model)
    assert any(note.startswith("trial at 80%") for note in result.notes)
    assert any(note.startswith("strategy: int8-lite is the model at") for note in result.notes)
    again = parse_recipe(Bundle.open(result.bundle.save(tmp_path / "d.bundle")).recipe())
    assert (again.optimize, again.float_passes) == ("size", ())


def test_nothing_is_chosen_by_samples_that_were_learnt_from(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((500, 4), np.float32), y=np.arange(500) % 5)
    np.savez(tmp_path / "b.npz", x=np.zeros((50, 4), np.float32), y=np.arange(50) % 5)
    data = Datasets(open_data(str(tmp_path / "a.npz")), open_data(str(tmp_path / "b.npz")))
    sources = with_validation(Sources(CONTRACT, data, np.arange(0, 500, 5), np.arange(50), (), ()), seed=0)
    assert len(sources.validation) == 80
    assert not set(sources.validation) & set(sources.learnable)
    assert not set(sources.validation) & set(sources.calibration)
    assert len(sources.calibration) == 100, "there are enough others"


def test_few_samples_to_judge_by_are_said() -> None:
    assert "on 20 samples only, each of which is 5.0 pt" in doubt_of(20)
    assert "on 0 samples only:" in doubt_of(0)
    assert doubt_of(200) == ""


def test_what_no_smaller_model_is_looked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="smaller int8 model of one shape"):
        Recipe("m.tflite", passes=(), optimize="size")
    with pytest.raises(ConfigError, match="'speed' is not known"):
        Recipe("m.tflite", optimize="speed")
