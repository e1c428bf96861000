"""A conversion, end to end on real digits: what is in the bundle, what was measured, what is judged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import edgeloop
from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import check_golden
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, DataError, GoalNotMetError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Advance
from edgeloop.runtime import open_session
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data import open_data
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.result import ConvertResult
from edgeloop_converters.sources import Datasets, choose_samples
from support.images import write_image

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(calibration, evaluation) as .npz: 300 training and 200 held-out scans."""
    folder = tmp_path_factory.mktemp("data")
    split = load_split()
    np.savez(folder / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(folder / "test.npz", x=split.held_out_images[:200], y=split.held_out_labels[:200])
    return str(folder / "train.npz"), str(folder / "test.npz")


@pytest.fixture
def recipe(digits_tflite: Path, data: tuple[str, str]) -> Recipe:
    return Recipe(
        str(digits_tflite), "generic-aarch64", *data, CONTRACT, passes=plan_passes("int8", "aeq", "fast"), effort="fast"
    )


def replaced(recipe: Recipe, **changes: object) -> Recipe:
    from dataclasses import replace

    return replace(recipe, **changes)  # type: ignore[arg-type]


def test_the_bundle_holds_what_was_measured(recipe: Recipe, tmp_path: Path) -> None:
    result = convert(replaced(recipe, goals=Goals(max_drop=0.02, min_agreement=0.95)))
    assert result.gate.passed, result.gate.reasons
    path = result.bundle.save(tmp_path / "d.bundle")
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.target) == ("digits", 1, "generic-aarch64")
    variant = manifest.variants[0]
    assert (variant.name, variant.scheme, variant.file) == ("int8", "int8", "models/int8.tflite")
    assert variant.delegates == ("xnnpack", "cpu")
    assert variant.metrics is not None and variant.profile is not None
    assert variant.metrics.metric == "accuracy"
    assert variant.metrics.n == 200
    assert variant.metrics.float_ is not None and variant.metrics.float_ > 0.95
    assert variant.metrics.agreement is not None and variant.metrics.agreement > 0.95
    assert manifest.float_metrics["accuracy"] == variant.metrics.float_
    assert "not the target" in variant.profile.device
    assert manifest.contract == CONTRACT
    assert bundle.report()["gate"]["passed"] is True
    assert bundle.report()["version"] == 1
    assert parse_recipe(bundle.recipe()).goals == Goals(max_drop=0.02, min_agreement=0.95)
    assert len(manifest.provenance["float_sha256"]) == 64


def test_the_exported_file_is_all_int8_and_passes_its_own_golden_samples(recipe: Recipe, tmp_path: Path) -> None:
    bundle = Bundle.open(convert(recipe).bundle.save(tmp_path / "d.bundle"))
    model = bundle.model()
    main = Graph.read(model).main
    assert {main.tensors[i].dtype for i in (*main.inputs, *main.outputs)} == {"int8"}
    golden = bundle.golden()
    assert golden is not None
    with open_session(model) as session:
        check = check_golden(session, bundle.manifest.contract, golden, "int8")
    assert check.passed, check.reason


@pytest.mark.slow
def test_the_recipe_in_a_bundle_makes_the_same_model_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Bundle.open(convert(recipe).bundle.save(tmp_path / "a.bundle"))
    for path in (recipe.source, recipe.data, recipe.evaluation):
        shutil.copy(str(path), tmp_path)
    monkeypatch.chdir(tmp_path)
    again = convert(parse_recipe(first.recipe()))
    assert again.variants[0].model == first.model()
    assert again.warnings == ()
    Path("train.npz").write_bytes(Path("test.npz").read_bytes())
    assert "data train.npz is another than the recipe was written for" in convert(again.recipe).warnings[0]


def test_a_bundle_tells_nothing_of_the_folders_it_was_made_from(
    recipe: Recipe, digits_tflite: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "secret-project" / "calib"
    for seed in range(30):
        write_image(folder / f"{seed}.png", seed=seed, size=(8, 8))
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())  # a finding that names both
    shutil.copy(digits_tflite, folder.parent)
    source, data = str(folder.parent / digits_tflite.name), f"{folder}/"
    given = replaced(
        recipe, source=source, data=data, evaluation=None, contract=None, hints=ContractFlags(std=(255.0,))
    )
    result = convert(given, command=f"edgeloop convert {source} --data {data} -o {tmp_path}/secret-project/o.bundle")
    bundle = Bundle.open(result.bundle.save(tmp_path / "b.bundle"))
    assert "secret-project" in str(result.full_report()), "the report beside the bundle is the user's own"
    assert "secret-project" not in str((bundle.recipe(), bundle.report(), bundle.manifest))
    packed = parse_recipe(bundle.recipe())
    assert (packed.source, packed.data) == (digits_tflite.name, "calib")
    assert packed.sha256["source"] == bundle.manifest.provenance["source_sha256"]
    assert set(packed.sha256) == {"source", "data"}
    assert bundle.report()["command"] == f"edgeloop convert {digits_tflite.name} --data calib -o o.bundle"


@pytest.mark.slow
def test_versions_count_up_and_a_folder_gets_the_default_name(recipe: Recipe, tmp_path: Path) -> None:
    result = convert(replaced(recipe, name="ic"))
    assert result.bundle.save(tmp_path) == tmp_path / "ic-1.bundle"
    assert convert(replaced(recipe, name="ic")).bundle.save(tmp_path) == tmp_path / "ic-2.bundle"
    assert convert(replaced(recipe, name="ic", version=7)).bundle.save(tmp_path).name == "ic-7.bundle"
    with pytest.raises(UsageError, match="does not exist"):
        result.bundle.save(tmp_path / "no" / "x.bundle")


def test_a_missed_goal_is_a_verdict_and_keeps_the_bundle_back(recipe: Recipe, tmp_path: Path) -> None:
    result = convert(replaced(recipe, goals=Goals(max_bytes=100)))
    assert not result.gate.passed
    with pytest.raises(GoalNotMetError, match="more than the goal of 100") as caught:
        result.bundle.save(tmp_path / "d.bundle")
    assert "--keep-failed" in str(caught.value.hint)
    assert list(tmp_path.glob("*.bundle")) == []
    assert result.bundle.save(tmp_path / "d.bundle", keep_failed=True).is_file()


@pytest.mark.slow
def test_a_latency_goal_is_judged_only_where_the_target_is_like_this_host(recipe: Recipe) -> None:
    far = convert(replaced(recipe, target="rpi4", goals=Goals(p95_ms=1e-6)))
    assert far.gate.passed
    assert far.gate.unverified != ()
    near = convert(replaced(recipe, target="generic-x86-64", goals=Goals(p95_ms=1e-6)))
    assert near.gate.unverified == ()
    assert not near.gate.passed


def test_without_evaluation_data_the_samples_are_split_and_never_shared(recipe: Recipe, data: tuple[str, str]) -> None:
    alone = replaced(recipe, evaluation=None)
    dataset = open_data(data[0])
    calibration, evaluation = choose_samples(alone, Datasets(dataset, dataset))
    assert len(calibration) == 100
    assert sorted([*calibration, *evaluation]) == list(range(300))
    result = convert(alone)
    assert result.report["data"]["evaluation"]["samples"] == 200
    assert any("no --eval was given" in note for note in result.notes)


def test_calibration_samples_are_even_over_the_classes_and_follow_the_seed(
    recipe: Recipe, data: tuple[str, str]
) -> None:
    both = Datasets(open_data(data[0]), open_data(data[1]))
    chosen, _ = choose_samples(recipe, both)
    assert both.calibration.labels is not None
    counts = np.bincount(both.calibration.labels[chosen])
    assert counts.min() == counts.max() == 10
    assert (choose_samples(recipe, both)[0] == chosen).all()
    assert (choose_samples(replaced(recipe, seed=1), both)[0] != chosen).any()


@pytest.mark.slow
def test_fast_evaluates_at_most_1000_samples_and_says_so(recipe: Recipe, tmp_path: Path) -> None:
    split = load_split()
    images, labels = np.tile(split.held_out_images, (3, 1, 1)), np.tile(split.held_out_labels, 3)
    np.savez(tmp_path / "many.npz", x=images, y=labels)
    many = replaced(recipe, evaluation=str(tmp_path / "many.npz"))
    result = convert(many)
    assert result.variants[0].quality.metrics.n == 1000
    assert any("1000 of 1791" in note for note in result.notes)
    assert convert(replaced(many, evaluation_samples=50)).variants[0].quality.metrics.n == 50


def test_evaluating_on_the_calibration_data_is_warned_of(recipe: Recipe, data: tuple[str, str]) -> None:
    result = convert(replaced(recipe, evaluation=data[0]))
    assert any("are the same" in warning for warning in result.warnings)


def test_without_labels_agreement_is_the_metric(recipe: Recipe) -> None:
    result = convert(replaced(recipe, ignore_labels=True, goals=Goals(min_agreement=0.9)))
    metrics = result.variants[0].quality.metrics
    assert (metrics.metric, metrics.float_) == ("agreement", 1.0)
    assert metrics.this == metrics.agreement
    assert result.gate.passed
    with pytest.raises(UsageError, match="--ignore-labels"):
        convert(replaced(recipe, ignore_labels=True, goals=Goals(max_drop=0.01)))


def test_a_float_bundle_is_the_float_model_itself(recipe: Recipe, digits_tflite: Path, data: tuple[str, str]) -> None:
    result = convert(replaced(recipe, passes=(), data=None, evaluation=data[1]))
    variant = result.variants[0]
    assert (variant.name, variant.scheme) == ("float", "float")
    assert variant.quality.metrics.this == variant.quality.metrics.float_
    assert len(Graph.read(variant.model).main.ops) == len(Graph.read(digits_tflite).main.ops)


def test_error_per_layer_is_in_the_report(recipe: Recipe) -> None:
    result = convert(recipe)
    ops = [op["name"] for op in result.report["per_op"]]
    assert ops.count("CONV_2D") == 3
    assert all(0 < op["snr_db"] <= 200 for op in result.report["per_op"])


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"data": None, "evaluation": None}, UsageError, "data are missing"),
        ({"data": None}, UsageError, "calibration data are missing"),
        ({"target": "rpi9"}, UsageError, "rpi9"),
        ({"source": "no/such.tflite"}, UsageError, "no such model"),
        ({"evaluation": "no/such/"}, DataError, "no such"),
        ({"contract": Contract((InputSpec("i", "image", (9, 9), "gray"),))}, ConfigError, "9"),
    ],
)
def test_wrong_use_is_one_clear_error(recipe: Recipe, changes: dict[str, object], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        convert(replaced(recipe, **changes))


class InterruptedAt:
    """Progress of a user who presses Ctrl-C when `label` begins."""

    def __init__(self, label: str) -> None:
        self.label = label

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Advance]:
        if label == self.label:
            raise KeyboardInterrupt
        yield lambda _count: None

    def note(self, text: str) -> None:
        pass


def test_an_interrupt_leaves_no_bundle_behind(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        convert(recipe, progress=InterruptedAt("evaluating"))
    assert [p for p in tmp_path.iterdir() if p.suffix == ".bundle"] == []


@pytest.mark.slow
def test_the_facade_mirrors_the_verbs(digits_tflite: Path, data: tuple[str, str], tmp_path: Path) -> None:
    result = edgeloop.convert(
        digits_tflite, target="rpi4", data=data[0], evaluate=data[1], contract=CONTRACT, effort="fast",
        goals=edgeloop.Goals(max_drop=0.02, p95_ms=20),
    )  # fmt: skip
    assert isinstance(result, ConvertResult)
    assert result.gate.passed
    path = result.bundle.save(tmp_path / "ic.bundle")
    again = edgeloop.evaluate(path, data[1])
    assert again.quality.metrics.this == result.variants[0].quality.metrics.this
    assert again.quality.metrics.agreement == result.variants[0].quality.metrics.agreement
    assert "convert" in dir(edgeloop)
    with pytest.raises(AttributeError):
        edgeloop.nothing  # noqa: B018


def test_a_result_is_shown_without_its_bytes(recipe: Recipe, tmp_path: Path) -> None:
    """A notebook prints what a cell ends with; a model is 300 kB of it."""
    result = convert(recipe)
    assert len(repr(result)) < 10_000
    assert repr(result.bundle) == "<PendingBundle digits: not saved>"
    result.bundle.save(tmp_path / "d.bundle")
    assert "saved as" in repr(result.bundle)


def test_goals_may_be_a_dictionary_and_are_checked(digits_tflite: Path) -> None:
    with pytest.raises(UsageError, match="goal 'max_dorp' is not known"):
        edgeloop.convert(digits_tflite, data="d", goals={"max_dorp": 0.01})
    with pytest.raises(UsageError, match=r"must be a number.*such as max_drop=0\.005"):
        Goals(max_drop="1pt")  # type: ignore[arg-type]
