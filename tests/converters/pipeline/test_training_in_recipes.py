"""Trainings of a recipe: stages of bits, figures for TensorBoard, the generalization gap, another format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import PassStep, plan_passes

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)
STAGES = [{"epochs": 1, "bits": 8, "share": 0.5}, {"epochs": 1, "bits": 6}]
QUANTIZE = PassStep("quantize", {"scheme": "int8"})


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_recipe_regularizes_quantizes_in_stages_and_writes_figures(digits_tflite: Path, tmp_path: Path) -> None:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:200], y=split.train_labels[:200])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:100], y=split.held_out_labels[:100])
    against_overfitting = {"epochs": 1, "l1": 1e-6, "l2": 1e-5, "dropout": 0.1, "precision": "bfloat16"}
    steps = (PassStep("fine-tune", against_overfitting), PassStep("qat", {"stages": STAGES}), QUANTIZE)
    recipe = Recipe(
        str(digits_tflite), "rpi4", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), CONTRACT, passes=steps,
        effort="fast",
    )  # fmt: skip
    result = convert(recipe, tensorboard=tmp_path / "figures")
    tuned, trained = result.report["refinement"][:2]
    assert "gap accuracy" in tuned["after"] and "generalization gap" in tuned["detail"]
    assert "stages 1 epoch in 8 bits, the first 50% of the layers; 1 epoch in 6 bits" in trained["detail"]
    assert {p.name.split("-")[0] for p in (tmp_path / "figures").iterdir()} == {"fine", "qat"}
    assert all(any(p.rglob("events*")) for p in (tmp_path / "figures").iterdir())
    assert len(trained["history"]) == 2


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_recipe_zeroes_weights_in_steps_and_trains_after_each(digits_tflite: Path, tmp_path: Path) -> None:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:200])
    gradual = {"amount": 0.5, "steps": 2, "epochs": 1, "rate": 1e-4, "augment": ["flips", "mix"]}
    recipe = Recipe(
        str(digits_tflite), "rpi4", str(tmp_path / "train.npz"), contract=CONTRACT, effort="fast", repair=False,
        passes=(PassStep("sparsify", gradual), PassStep("calibrate", {"samples": 20}), QUANTIZE),
    )  # fmt: skip
    result = convert(recipe, tensorboard=tmp_path / "figures")
    assert result.report["refinement"][0]["after"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert len(list((tmp_path / "figures").rglob("events*"))) == 2


@pytest.mark.parametrize("options", [{"steps": 4}, {"steps": 4, "epochs": 1}, {"epochs": 1}])
def test_zeroing_in_steps_says_towards_what_and_how_long_it_trains(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="goes towards an amount in steps"):
        Recipe(
            "m.tflite",
            passes=(PassStep("sparsify", {"threshold": 0.1, **options}), *plan_passes("int8", "aeq", "fast")),
        )


def test_stages_survive_the_way_through_toml() -> None:
    recipe = Recipe("m.tflite", passes=(PassStep("qat", {"stages": STAGES}), QUANTIZE))
    assert parse_recipe(recipe.to_toml()).passes == recipe.passes


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("qat", {"stages": []}, "stages must be a list of"),
        ("qat", {"stages": [{"bits": 4}]}, "stages must be a list of"),
        ("qat", {"stages": [{"epochs": 1, "bits": 9}]}, "stages must be a list of"),
        ("qat", {"precision": "bfloat16"}, "no option 'precision'"),
        ("distill", {"precision": "float16"}, "precision must be float32 or bfloat16"),
    ],
)
def test_a_wrong_training_option_is_one_clear_error(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PassStep(name, options)
