"""Recipes whose passes make the float model smaller before it is quantized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, UsageError
from edgeloop.graph import Graph
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import PassStep, check_order, plan_passes
from support.tiny_models import tiny_residual

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)
_TOLD = ("prune", "distillation", "fine-tuning", "quantization-aware training")
PRUNE = PassStep("prune", {"amount": 0.25, "tile": 1, "samples": 200})


@pytest.fixture
def recipe(digits_tflite: Path, tmp_path: Path) -> Recipe:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:200], y=split.held_out_labels[:200])
    return Recipe(
        str(digits_tflite), "generic-aarch64", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), CONTRACT,
        passes=(PRUNE, *plan_passes("int8", "aeq", "fast")), effort="fast",
    )  # fmt: skip


def test_a_pruned_model_is_smaller_and_compared_with_the_one_that_came_in(recipe: Recipe, tmp_path: Path) -> None:
    plain = convert(replace(recipe, passes=plan_passes("int8", "aeq", "fast")))
    pruned = convert(recipe)
    assert len(pruned.variants[0].model) < len(plain.variants[0].model)
    metrics = pruned.variants[0].quality.metrics
    assert metrics.float_ == plain.variants[0].quality.metrics.float_, "the float model is the user's own"
    assert metrics.this is not None and metrics.this > 0.85
    assert any(note.startswith("prune: ") for note in pruned.notes)
    bundle = Bundle.open(pruned.bundle.save(tmp_path / "d.bundle"))
    assert parse_recipe(bundle.recipe()).float_passes == (PRUNE,)


def test_a_float_bundle_may_be_pruned_too(recipe: Recipe) -> None:
    result = convert(replace(recipe, passes=(PRUNE,)))
    variant = result.variants[0]
    assert (variant.name, variant.scheme) == ("float-lite", "float")
    assert Graph.read(variant.model).numeric_kind() == "float"
    assert len(variant.model) < Path(recipe.source).stat().st_size


def test_a_recipe_simplifies_and_zeroes_weights(recipe: Recipe) -> None:
    steps = (PassStep("optimize"), PassStep("sparsify", {"amount": 0.3}), *recipe.passes[1:])
    result = convert(replace(recipe, passes=steps))
    assert [note.partition(":")[0] for note in result.notes if note.startswith(("optimize", "sparsify"))] != []
    assert result.variants[0].quality.metrics.this is not None and result.variants[0].quality.metrics.this > 0.85


def test_a_recipe_takes_whole_branches_out(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(model := tiny_residual())
    pictures = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=pictures, y=np.arange(40) % 4)
    contract = Contract(
        (InputSpec("image", "image", (8, 8), "rgb", None, (0.0,), (255.0,)),),
        OutputSpec("classification", tuple("abcd")),
    )
    steps = (PassStep("prune-blocks", {"count": 1, "samples": 20}), *plan_passes("int8", "aeq", "fast"))
    files = (str(tmp_path / "m.tflite"), "generic-aarch64", str(tmp_path / "d.npz"), str(tmp_path / "d.npz"))
    (variant,) = convert(Recipe(*files, contract, passes=steps, effort="fast")).variants
    assert len(Graph.read(variant.model).main.ops) < len(Graph.read(model).main.ops)


def test_passes_over_the_float_model_come_first() -> None:
    check_order(["prune", "prune", "calibrate", "quantize"])
    check_order(["prune"])
    for wrong, told in (
        (["calibrate", "prune", "quantize"], "'prune' changes the float model, and stands behind 'calibrate'"),
        (["quantize", "prune"], "'prune' changes the float model, and stands behind 'quantize'"),
        (["prune", "calibrate"], "it ends in 'calibrate'"),
    ):
        with pytest.raises(ConfigError, match=told):
            check_order(wrong)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("qat", "prune", "quantize"), "'prune' stands behind 'qat'"),
        (("qat", "qat", "quantize"), "'qat' stands behind 'qat'"),
        (("qat",), "nothing is quantized after it"),
        (("qat", "calibrate", "quantize"), "qat needs no 'calibrate'"),
        (("sparsify", "distill", "calibrate", "quantize"), "fills the zeros again"),
        (("sparsify", "qat", "quantize"), "fills the zeros again"),
    ],
)
def test_training_for_int8_comes_last_and_learns_the_ranges(names: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Recipe("m.tflite", passes=tuple(PassStep(name) for name in names))


@pytest.mark.parametrize(
    "step", [PassStep("prune"), PassStep("prune", {"amount": 0.5, "goal": 0.5}), PassStep("sparsify")], ids=repr
)
def test_how_much_goes_is_said_once(step: PassStep) -> None:
    with pytest.raises(ConfigError, match=f"'{step.name}' takes exactly one of"):
        Recipe("m.tflite", passes=(step, *plan_passes("int8", "aeq", "fast")))


def test_training_for_int8_goes_with_no_other_scheme() -> None:
    with pytest.raises(ConfigError, match="trains for scheme int8, not dynamic"):
        Recipe("m.tflite", passes=(PassStep("qat"), PassStep("quantize", {"scheme": "dynamic"})))


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_recipe_prunes_distills_and_trains_for_int8(recipe: Recipe, tmp_path: Path) -> None:
    training = {"epochs": 2, "batch": 16, "rate": 3e-4}
    steps = (
        PRUNE, PassStep("distill", training), PassStep("fine-tune", training), PassStep("qat", training),
        PassStep("quantize", {"scheme": "int8"}),
    )  # fmt: skip
    result = convert(replace(recipe, passes=steps))
    (variant,) = result.variants
    assert Graph.read(variant.model).numeric_kind() == "int8"
    assert variant.quality.metrics.this is not None and variant.quality.metrics.this > 0.85
    told = [note.partition(":")[0] for note in result.notes]
    assert [name for name in told if name in _TOLD] == list(_TOLD)
    assert not list((tmp_path / "home").rglob("checkpoint.npz")), "what is done leaves nothing to go on from"
    assert parse_recipe(Bundle.open(result.bundle.save(tmp_path / "d.bundle")).recipe()).passes == steps


@pytest.mark.tensorflow
@pytest.mark.slow
def test_training_on_labels_that_are_not_there_says_so(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="needs labelled data"):
        convert(replace(recipe, passes=(PassStep("fine-tune"),), ignore_labels=True))


def test_what_starts_from_the_source_cannot_follow_them() -> None:
    with pytest.raises(ConfigError, match="engine tflite starts from the source"):
        Recipe("m.keras", passes=(PRUNE, *plan_passes("int8", "tflite", "fast")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"amount": 0}, "amount must be a share"),
        ({"amount": 1.0}, "amount must be a share"),
        ({"goal": "half"}, "goal must be a share"),
        ({"score": "magic"}, "score must be one of"),
        ({"tile": 0}, "tile must be"),
        ({"layers": 3}, "no option 'layers'"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PassStep("prune", options)
