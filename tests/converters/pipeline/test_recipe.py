"""A recipe survives TOML unchanged and its reader refuses everything it does not know."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, EdgeloopError, UsageError
from edgeloop.tomlfile import parse_toml
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_options import PASSES
from edgeloop_converters.recipe_reading import _KEYS as KNOWN_KEYS
from edgeloop_converters.recipe_reading import load_recipe, parse_recipe, recipe_from_dict
from edgeloop_converters.recipe_steps import PassStep, plan_passes
from edgeloop_converters.toml_writer import to_toml

IMAGE = Contract(
    (InputSpec("image", "image", (32, 32), "rgb", None, (0.0,), (255.0,)),),
    OutputSpec("classification", ("cat", 'd"og\n')),
)


def test_a_full_recipe_survives_toml() -> None:
    recipe = Recipe(
        "dir/resnet.h5", "rpi5", "calib/", "test/", IMAGE, "", ContractFlags(), plan_passes("int8", "tflite", "fast"),
        "fast", Goals(max_drop=0.005, p95_ms=20.0), 7, "ic", 3, True, 100, "serving_default",
    )  # fmt: skip
    assert parse_recipe(recipe.to_toml()) == recipe
    assert (recipe.scheme, recipe.engine, recipe.calibration_samples) == ("int8", "tflite", 100)


def test_a_float_recipe_has_no_passes_and_survives_toml() -> None:
    recipe = Recipe("m.tflite", passes=plan_passes("float", "aeq", "default"))
    assert recipe.scheme == "float"
    assert parse_recipe(recipe.to_toml()) == recipe


def test_hints_survive_toml_and_are_checked() -> None:
    recipe = Recipe("m", hints=ContractFlags(kind="image", size=(96, 96), mean=(0.5, 1.0, 2.0), labels=("a", "b")))
    assert parse_recipe(recipe.to_toml()) == recipe
    for wrong in ("size = [1]", 'size = "9x9"', "kind = 3", 'mean = ["a"]', "depth = 3"):
        with pytest.raises(ConfigError, match="hint"):
            parse_recipe(f'source = "m"\n[hints]\n{wrong}')


def test_the_shortest_recipe_gets_the_defaults() -> None:
    recipe = parse_recipe('source = "m.tflite"')
    assert (recipe.target, recipe.scheme, recipe.engine, recipe.calibration_samples) == ("rpi4", "int8", "aeq", 512)
    assert parse_recipe('source = "m.tflite"\neffort = "fast"').calibration_samples == 100


def test_the_examples_in_the_docs_have_every_key_and_are_recipes() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/converting.md").read_text()
    section = page.split("### A recipe\n")[1].split("\n## ")[0]
    whole, with_hints = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    keys = parse_toml(whole, "example").keys() | parse_toml(with_hints, "example").keys()
    assert keys == KNOWN_KEYS.keys()
    for text in (whole, with_hints):
        recipe = parse_recipe(text)
        assert parse_recipe(recipe.to_toml()) == recipe
    for goal in fields(Goals):
        assert getattr(parse_recipe(whole).goals, goal.name) is not None
    for hint in fields(ContractFlags):
        assert getattr(parse_recipe(with_hints).hints, hint.name) is not None
    for name, options in PASSES.items():
        assert [option for option in (name, *options) if not re.search(rf"\b{option}\b", section)] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('target = "rpi4"', "'source'"),
        ('source = "m"\ncolour = 1', "unknown key 'colour'"),
        ('source = "m"\ntrust_code = true', "unknown key 'trust_code'"),
        ('source = "m"\nseed = "x"', "'seed' must be a int"),
        ('source = "m"\nseed = true', "'seed' must be a int"),
        ('source = "m"\nseed = -1', "seed must be"),
        ('source = "m"\nschema = 9', "schema 9"),
        ('source = "m"\nname = "../x"', "bundle name"),
        ('source = "m"\nversion = 0', "version must be"),
        ('source = "m"\neffort = "max"', "effort 'max'"),
        ('source = "m"\n[goals]\nmax_drop = 1.0', "ambiguous"),
        ('source = "m"\n[goals]\nmin_gain = 1.0', "'min_gain' is not known"),
        ('source = "m"\n[[passes]]\nname = "shrink"', "pass 'shrink'"),
        ('source = "m"\n[[passes]]\nname = "calibrate"\ncode = "x"', "no option 'code'"),
        ('source = "m"\n[[passes]]\nname = "calibrate"\nsamples = 0', "samples must be"),
        ('source = "m"\n[[passes]]\nname = "quantize"', "needs 'calibrate'"),
        ('source = "m"\n[[passes]]\nsamples = 3', "table with a name"),
        ('source = "m"\n[contract]\ninputs = []', "at least one input"),
        ('source = "m"\n[sha256]\nlabels = "00"', "sha256 holds"),
        ('source = "m"\n[sha256]\ndata = "00"', "64 hexadecimal"),
        ("source = ", "recipe:"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_one_clear_error(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_recipe(text)


@pytest.mark.parametrize("key", ["data", "eval"])
def test_code_named_in_a_recipe_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="never taken from a file"):
        parse_recipe(f'source = "m"\n{key} = "my.module:batches"')


def test_a_file_that_is_missing_or_too_large_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "no.toml")
    large = tmp_path / "large.toml"
    large.write_text("#" * (1 << 20) + "##")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_recipe(large)


def test_the_name_defaults_to_the_stem_made_safe() -> None:
    assert Recipe("a/pretrainedResnet.h5").bundle_name == "pretrainedResnet"
    assert Recipe("a/my model (1).h5").bundle_name == "my-model-1"
    assert Recipe("a/日本.h5").bundle_name == "model"


_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
_KEYS = st.sampled_from(
    ["schema", "source", "target", "data", "eval", "name", "version", "effort", "seed", "ignore_labels", "passes",
     "goals", "contract", "hints", "other"]
)  # fmt: skip


@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_values_give_a_recipe_that_survives_or_an_error_of_ours(data: dict[str, object]) -> None:
    try:
        recipe = recipe_from_dict({"source": "m.tflite", **data})
    except EdgeloopError:
        return
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert parse_recipe(recipe.to_toml()) == recipe


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_without_a_traceback(text: str) -> None:
    with suppress(EdgeloopError):
        parse_recipe(text)


@given(st.dictionaries(st.text(min_size=1, max_size=8), _VALUES, max_size=4))
def test_toml_written_is_read_back_equal(data: dict[str, object]) -> None:
    try:
        text = to_toml(data)
    except ValueError:
        return
    assert parse_toml(text, "test") == data


def test_an_unknown_pass_option_cannot_be_built_in_python() -> None:
    with pytest.raises(ConfigError):
        PassStep("quantize", {"depth": 4})
    with pytest.raises(UsageError):
        plan_passes("int3", "aeq", "fast")


@pytest.mark.parametrize(
    ("scheme", "engine", "asked"),
    [("dynamic", "aeq", {"method": "mse"}), ("fp16", "aeq", {"samples": 50}), ("float", "aeq", {"method": "entropy"}),
     ("int8", "tflite", {"method": "mse"})],
)  # fmt: skip
def test_what_has_no_effect_on_a_calibration_is_refused(scheme: str, engine: str, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no effect") as caught:
        plan_passes(scheme, engine, "fast", **asked)
    assert caught.value.hint


def test_a_flag_for_another_scheme_wins_over_a_recipe_that_calibrates_its_own_way(tmp_path: Path) -> None:
    import argparse

    from edgeloop.cli import convert

    path = tmp_path / "r.toml"
    path.write_text(Recipe("m.tflite", passes=plan_passes("int8", "aeq", "fast", 50, method="mse")).to_toml())
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    recipe = convert.recipe_of(parser.parse_args(["--recipe", str(path), "--scheme", "fp16"]))
    assert (recipe.scheme, recipe.is_calibrated) == ("fp16", False)
    kept = convert.recipe_of(parser.parse_args(["--recipe", str(path), "--scheme", "a16w8"]))
    assert (kept.calibration_method, kept.calibration_samples) == ("mse", 50)
