"""The issue's controls: sabotage on real models is named, and healthy real data raise no alarm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import dequantize
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.graph import Graph
from edgeloop.runtime import Session, open_session
from edgeloop_converters.check_data.detective import investigate
from edgeloop_converters.check_data.finding import NOTE
from edgeloop_converters.check_data.run import check_data
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data import Dataset, open_data
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from support.cifar import extract

pytestmark = pytest.mark.slow

SPEC = InputSpec("x", "image", (32, 32), "rgb")
MODEL = "models/mlperf_tiny/pretrainedResnet.tflite"


@pytest.fixture(scope="module")
def folders(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("cifar10")
    counts = {"train": 30, "test": 120}
    return {part: extract(shared_data / "cifar10" / f"{part}.tar.gz", root, n) for part, n in counts.items()}


@pytest.fixture(scope="module")
def pictures(folders: dict[str, Path]) -> Dataset:
    return open_data(folders["test"])


@pytest.fixture(scope="module")
def resnet8(shared_data: Path) -> Iterator[Session]:
    with open_session(to_float_tflite(shared_data / MODEL).tflite) as session:
        yield session


def named(session: Session, spec: InputSpec, data: Dataset, names: tuple[str, ...] | None = None) -> str:
    verdict = investigate(session, spec, data, names or data.class_names)
    assert verdict is not None
    return "" if verdict.suspicion is None else f"{verdict.suspicion.title} | {verdict.suspicion.fix}"


@pytest.mark.parametrize(
    ("sabotaged", "says"),
    [
        ({"color": "bgr"}, "rgb instead of bgr | --color rgb"),
        ({"std": (255.0,)}, "pixels 0..255 | --mean 0 --std 1"),
        ({"mean": (127.5,), "std": (127.5,)}, "pixels 0..255 | --mean 0 --std 1"),
        ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, "pixels 0..255 | --mean 0 --std 1"),
        ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, "pixels 0..255 | --mean 0 --std 1"),
        (
            {"color": "bgr", "std": (255.0,)},
            "pixels 0..255, rgb instead of bgr | --mean 0 --std 1 --color rgb",
        ),
    ],
)
def test_a_wrong_input_contract_is_named(
    resnet8: Session, pictures: Dataset, sabotaged: dict[str, object], says: str
) -> None:
    assert named(resnet8, replace(SPEC, **sabotaged), pictures) == says  # type: ignore[arg-type]


def test_wrong_class_ids_are_named(resnet8: Session, pictures: Dataset) -> None:
    assert pictures.labels is not None and pictures.class_names is not None
    shifted = replace(pictures, labels=(pictures.labels + 1) % 10)
    assert "one too high" in named(resnet8, SPEC, shifted)
    table = np.random.default_rng(1).permutation(10)
    order = np.argsort(table)
    wrong = replace(pictures, labels=table[pictures.labels])
    file_order = tuple(pictures.class_names[i] for i in order)
    assert "alphabetical order" in named(resnet8, SPEC, wrong, file_order)


def test_a_wrong_resize_is_named(resnet8: Session, pictures: Dataset) -> None:
    def wide(i: int) -> np.ndarray:
        middle = pictures.read(i)
        side = np.roll(middle, 7, axis=0)[:, :16]
        return np.concatenate([side, middle, side], axis=1)

    with_sides = replace(pictures, read=wide)
    assert "resize crop instead of stretch" in named(resnet8, SPEC, with_sides)
    assert named(resnet8, replace(SPEC, resize="crop"), with_sides) == ""


@pytest.mark.parametrize("seed", range(8))
def test_the_right_contract_is_never_suspected(resnet8: Session, pictures: Dataset, seed: int) -> None:
    verdict = investigate(resnet8, SPEC, pictures, pictures.class_names, seed=seed)
    assert verdict is not None and verdict.suspicion is None and not verdict.is_chance


def test_resnet8_on_cifar_is_healthy(shared_data: Path, folders: dict[str, Path]) -> None:
    recipe = Recipe(str(shared_data / MODEL), data=str(folders["train"]), evaluation=str(folders["test"]))
    result = check_data(recipe)
    assert result.findings == ()
    assert result.verdict is not None and result.verdict.accuracy > 0.65


@pytest.mark.tensorflow
def test_keywords_are_healthy_and_their_codes_taken_as_numbers_are_not(shared_data: Path, tmp_path: Path) -> None:
    models, codes = shared_data / "models/mlperf_tiny", shared_data / "kws/kws01.npz"
    affine = Graph.read(models / "kws_ref_model.tflite").inputs[0].affine
    with np.load(codes) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["features"] = dequantize(arrays["features"], affine)
    np.savez(tmp_path / "kws.npz", **arrays)
    source = str(models / "kws_ref_model")
    healthy = check_data(Recipe(source, data=str(tmp_path / "kws.npz")))
    # Three pairs of these 600 samples really are the same recording.
    assert [f.check for f in healthy.findings if f.severity != NOTE] == []
    wrong = check_data(Recipe(source, data=str(codes)))
    assert wrong.is_severe
    assert {f.check for f in wrong.findings} >= {"contract", "dtype"}


def test_the_convert_verb_says_so_and_changes_nothing(shared_data: Path, folders: dict[str, Path]) -> None:
    from edgeloop.errors import GoalNotMetError
    from edgeloop_converters.pipeline import convert

    recipe = Recipe(
        str(shared_data / MODEL),
        data=str(folders["train"]),
        evaluation=str(folders["test"]),
        hints=ContractFlags(color="bgr", mean=(0.0,), std=(1.0,)),
        passes=plan_passes("int8", "aeq", "fast", 100),
        effort="fast",
    )
    result = convert(recipe)
    assert result.findings[0].check == "contract"
    assert "--color rgb" in result.findings[0].fix
    assert any("rgb instead of bgr" in w for w in result.warnings)
    assert result.recipe.contract is not None
    assert result.recipe.contract.inputs[0].color == "bgr", "a contract that was given is never changed"
    with pytest.raises(GoalNotMetError, match="rgb instead of bgr"):
        convert(recipe, strict_data=True)


@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_evaluate_doubts_a_contract_that_another_one_beats(
    shared_data: Path, folders: dict[str, Path], color: str
) -> None:
    from edgeloop_converters.assess import evaluate

    hints = ContractFlags(color=color, mean=(0.0,), std=(1.0,))
    result = evaluate(shared_data / MODEL, folders["test"], hints=hints, samples=600)
    assert any("rgb instead of bgr" in w for w in result.warnings) == (color == "bgr")


def test_a_healthy_conversion_has_no_findings(shared_data: Path, folders: dict[str, Path]) -> None:
    from edgeloop_converters.pipeline import convert

    recipe = Recipe(
        str(shared_data / MODEL),
        data=str(folders["train"]),
        evaluation=str(folders["test"]),
        contract=Contract((SPEC,), OutputSpec("classification")),
        effort="fast",
    )
    first, second = convert(recipe), convert(recipe)
    assert first.findings == second.findings == ()
    assert first.cache is not None and first.cache["hits"] == 0
    assert second.cache is not None and second.cache["misses"] == 0
    assert second.variants[0].model == first.variants[0].model
