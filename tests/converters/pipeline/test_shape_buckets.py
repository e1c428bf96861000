"""Text models: token ids with a mask to int8, and one variant per length in one bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import check_golden
from edgeloop.cli.main import main
from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.assess import evaluate
from edgeloop_converters.compare import compare
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from support.text_models import WORDS, sentences, trained, transformer

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text.keras for any length, and sentences of 4 to 40 words."""
    folder = tmp_path_factory.mktemp("text")
    trained(folder / "text.keras")
    x, y = sentences(400, seed=1)
    np.savez(folder / "text.npz", tokens=x, y=y)
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Any]:
    """What `convert --json` said of two lengths; the bundle is beside."""
    import contextlib
    import io

    said = io.StringIO()
    arguments = [
        "convert", str(folder / "text.keras"), "--data", str(folder / "text.npz"), "--effort", "fast", "--json",
        "--target", "generic-x86-64", "--shape", "16", "--shape", "1,32", "--min-agreement", "0.9",
        "-o", str(folder / "text.bundle"), "--no-sign",
    ]  # fmt: skip
    with contextlib.redirect_stdout(said):
        assert main(arguments) == 0
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer


def test_one_variant_per_shape_each_judged_on_what_it_holds(made: dict[str, Any]) -> None:
    variants = made["variants"]
    assert [(v["name"], v["input_shapes"]) for v in variants] == [("int8-16", [[16]]), ("int8-32", [[32]])]
    for variant in variants:
        assert variant["metrics"]["this"] > 0.9
        assert variant["metrics"]["agreement"] > 0.95
        assert variant["gate"]["passed"]
        assert variant["profile"]["n"] > 0
    held = [v["metrics"]["n"] for v in variants]
    assert min(held) > 40
    (left_out,) = [w for w in made["warnings"] if "left out" in w]
    assert left_out.startswith(f"{400 - 100 - sum(held)} of 400") or "are larger than the largest shape, 32" in left_out


def test_the_bundle_knows_its_shapes_and_the_library_picks_by_length(made: dict[str, Any], folder: Path) -> None:
    bundle = Bundle.open(folder / "text.bundle", allow_unsigned=True)
    manifest, golden = bundle.manifest, bundle.golden()
    assert manifest.contract.inputs[0].shape == (-1,)
    assert [v.input_shapes for v in manifest.variants] == [((16,),), ((32,),)]
    assert golden is not None
    for variant in manifest.variants:
        with open_session(bundle.model(variant.name)) as session:
            assert check_golden(session, manifest.contract, golden, variant.name).passed
    x, y = sentences(200, seed=9)
    right = 0
    with edgeloop_agent.open(folder / "text.bundle", allow_unsigned=True) as model:
        for ids, label in zip(x, y, strict=True):
            length = int(np.count_nonzero(ids))
            if length > 32:
                continue
            result = model(ids[:length])
            assert result.variant == ("int8-16" if length <= 16 else "int8-32")
            right += result.top[0].class_id == label
    assert right > 0.9 * np.count_nonzero(np.count_nonzero(x, axis=1) <= 32)


def test_evaluate_runs_every_bucket_and_the_recipe_makes_them_again(made: dict[str, Any], folder: Path) -> None:
    progress = SilentProgress()
    result = evaluate(folder / "text.bundle", folder / "text.npz", allow_unsigned=True, progress=progress)
    variants = result.to_dict()["variants"]
    assert [v["name"] for v in variants] == ["int8-16", "int8-32"]
    assert any("larger than the largest shape, 32" in warning for warning in result.warnings)
    assert sorted(progress.notes) == sorted(set(progress.notes))  # once, not once per bucket
    recipe = parse_recipe(Bundle.open(folder / "text.bundle", allow_unsigned=True).recipe())
    assert [str(shape) for shape in recipe.shapes] == ["16", "1x32"]
    assert recipe.contract is not None


def test_compare_says_which_buckets_it_left_out_and_which_would_hold_the_data(
    made: dict[str, Any], folder: Path
) -> None:
    text, short, x = folder / "text.bundle", folder / "short.npz", sentences(60, seed=3)[0]
    np.savez(short, tokens=x[(np.count_nonzero(x, axis=1) > 16) & (np.count_nonzero(x, axis=1) <= 32)])
    with pytest.raises(DataError, match="larger than") as caught:
        compare(text, text, data=short, latency=False, allow_unsigned=True)
    assert caught.value.hint == "compare the variants that hold it: --variant-a int8-32 --variant-b int8-32"
    result = compare(
        text, text, data=short, latency=False, allow_unsigned=True, variants=("int8-32", "int8-32")
    )  # fmt: skip
    assert result.quality is not None and result.quality.agreement == 1
    assert result.notes[0] == "A has variants for other shapes, not compared here: int8-16 (--variant-a NAME)"


def test_tokens_and_a_mask_through_a_transformer(folder: Path) -> None:
    transformer(folder / "two.keras")
    random = np.random.default_rng(0)
    np.savez(
        folder / "two.npz", tokens=random.integers(0, WORDS, (150, 16)), mask=(random.random((150, 16)) > 0.2) * 1.0
    )
    result = convert(
        Recipe(
            str(folder / "two.keras"), "generic-x86-64", str(folder / "two.npz"),
            passes=plan_passes("int8", "aeq", "fast"), effort="fast",
        )
    )  # fmt: skip
    variant = result.variants[0]
    inputs = {t.name: t.dtype for t in Graph.read(variant.model).inputs}
    assert inputs == {"tokens": "int32", "mask": "int8"}
    assert variant.quality.metrics.n == 75
    assert variant.quality.metrics.agreement is not None
    assert variant.quality.metrics.agreement > 0.85
