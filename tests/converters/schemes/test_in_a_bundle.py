"""Every scheme: converted, bundled, opened by the agent's library, and right on held-out digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import check_golden
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.schemes import SCHEMES

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)
MAX_DROP = {"int4": 0.02, "int8-compact": 0.015, "clustered": 0.02, "fixed-point": 0.015}
HELD_OUT = 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(calibration, evaluation) as .npz."""
    folder = tmp_path_factory.mktemp("data")
    split = load_split()
    np.savez(folder / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(folder / "test.npz", x=split.held_out_images[:HELD_OUT], y=split.held_out_labels[:HELD_OUT])
    return str(folder / "train.npz"), str(folder / "test.npz")


def recipe_for(source: Path, data: tuple[str, str], scheme: str, io: str = "", target: str = "rpi4") -> Recipe:
    passes = plan_passes(scheme, "aeq", "fast", io=io)
    return Recipe(str(source), target, *data, CONTRACT, passes=passes, effort="fast")


def accuracy_on_the_device(path: Path) -> float:
    """Through the agent's library; the bundle's own golden samples must pass first."""
    bundle = Bundle.open(path)
    golden = bundle.golden()
    assert golden is not None
    variant = bundle.manifest.variants[0].name
    with open_session(bundle.model()) as session:
        check = check_golden(session, bundle.manifest.contract, golden, variant)
    assert check.passed, check.reason
    split = load_split()
    with edgeloop_agent.open(path) as model:
        found = [int(model(image).label or -1) for image in split.held_out_images[:HELD_OUT]]
    return float(np.mean(np.array(found) == split.held_out_labels[:HELD_OUT]))


@pytest.mark.parametrize("name", list(SCHEMES))
def test_a_bundle_of_any_scheme_runs_on_the_agent(
    name: str, digits_tflite: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    result = convert(recipe_for(digits_tflite, data, name))
    variant = result.variants[0]
    assert (variant.name, variant.scheme) == (name, name)
    assert variant.to_dict()["xz_bytes"] > 1000
    path = result.bundle.save(tmp_path / "d.bundle")
    metrics = variant.quality.metrics
    assert metrics.float_ is not None and metrics.this is not None
    assert metrics.float_ - metrics.this <= MAX_DROP.get(name, 0.01)
    assert accuracy_on_the_device(path) == pytest.approx(metrics.this, abs=0.01)
    assert parse_recipe(Bundle.open(path).recipe()).scheme == name


@pytest.mark.slow
@pytest.mark.parametrize("io", ["float", "int8", "uint8"])
def test_inputs_and_outputs_in_the_kind_asked_for(
    io: str, digits_tflite: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    plain = convert(recipe_for(digits_tflite, data, "int8"))
    result = convert(recipe_for(digits_tflite, data, "int8", io))
    graph = Graph.read(result.variants[0].model)
    assert {t.dtype for t in (*graph.inputs, *graph.outputs)} == {"float32" if io == "float" else io}
    assert graph.numeric_kind() == "int8"
    assert result.report["float_ops"] == []
    assert graph.inputs[0].name == Graph.read(plain.variants[0].model).inputs[0].name
    assert result.variants[0].quality.metrics.agreement == pytest.approx(
        plain.variants[0].quality.metrics.agreement, abs=0.006
    )
    assert len(result.report["per_op"]) == len(plain.report["per_op"])
    path = result.bundle.save(tmp_path / "d.bundle")
    assert accuracy_on_the_device(path) == pytest.approx(result.variants[0].quality.metrics.this, abs=0.01)


def test_16_bit_activations_get_float_inputs_on_request(digits_tflite: Path, data: tuple[str, str]) -> None:
    graph = Graph.read(convert(recipe_for(digits_tflite, data, "16x8", "float")).variants[0].model)
    assert {t.dtype for t in (*graph.inputs, *graph.outputs)} == {"float32"}
    assert graph.numeric_kind() == "int16"


class Heard(SilentProgress):
    """Keeps what is said, in order with the steps."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.slow
def test_a_slow_scheme_says_so_before_anything_runs(digits_tflite: Path, data: tuple[str, str]) -> None:
    heard = Heard()
    convert(recipe_for(digits_tflite, data, "a16w8"), progress=heard)
    assert "no fast kernels" in heard.said[0]
    heard = Heard()
    convert(recipe_for(digits_tflite, data, "int8"), progress=heard)
    assert not any("times int8's latency" in line for line in heard.said)


@pytest.mark.parametrize("name", [n for n, s in SCHEMES.items() if not s.edgetpu and n != "float"])
def test_an_edge_tpu_refuses_what_it_cannot_compute_before_any_work(name: str, digits_tflite: Path) -> None:
    nowhere = ("no/such/data", "no/such/data")
    with pytest.raises(UsageError, match="int8 only") as caught:
        convert(recipe_for(digits_tflite, nowhere, name, target="coral-usb"))
    assert "--scheme int8" in str(caught.value.hint)


def test_weights_alone_need_no_calibration_data(digits_tflite: Path, data: tuple[str, str]) -> None:
    recipe = recipe_for(digits_tflite, data, "dynamic")
    assert [step.name for step in recipe.passes] == ["quantize"]
    result = convert(replace(recipe, data=None))
    assert result.variants[0].quality.metrics.n == HELD_OUT
