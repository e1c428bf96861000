"""What each pass of a recipe contributed, told with the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import PassStep, plan_passes
from edgeloop_converters.report.sections.ablation import ablation

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)
STEPS = (PassStep("prune", {"amount": 0.25, "tile": 1, "samples": 64}), PassStep("sparsify", {"amount": 0.3}))


@pytest.fixture
def recipe(digits_tflite: Path, tmp_path: Path) -> Recipe:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:100], y=split.held_out_labels[:100])
    return Recipe(
        str(digits_tflite), "rpi4", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), CONTRACT,
        passes=(*STEPS, *plan_passes("int8", "aeq", "fast")), effort="fast",
    )  # fmt: skip


def test_each_pass_has_its_own_before_and_after(recipe: Recipe) -> None:
    result = convert(recipe)
    found = result.report["ablation"]
    assert [step["pass"] for step in found["steps"]] == ["prune", "sparsify", "quantize"]
    prune, sparsify, quantize = found["steps"]
    assert prune["after"]["macs"] < prune["before"]["macs"]
    assert prune["after"] == sparsify["before"]
    assert quantize["after"]["bytes"] == len(result.variants[0].model)
    assert (found["without"], found["samples"], prune["after"]["value"]) == ([], 0, None), (
        "nothing was kept to judge by"
    )


def test_on_request_the_recipe_runs_without_each_of_them(recipe: Recipe) -> None:
    result = convert(recipe, ablation=True)
    found = result.to_dict()["ablation"]
    assert found["samples"] > 20
    assert [one["pass"] for one in found["without"]] == ["prune", "sparsify"]
    without_prune = found["without"][0]
    assert without_prune["before"]["bytes"] > without_prune["after"]["bytes"] == len(result.variants[0].model)
    assert all(0 <= step["after"]["value"] <= 1 for step in found["steps"])
    page = ablation(result.report)
    assert page is not None and "The recipe without one pass" in page


def test_a_recipe_without_such_passes_has_none(recipe: Recipe) -> None:
    assert convert(replace(recipe, passes=plan_passes("int8", "aeq", "fast"))).report["ablation"] is None
