"""The gate and the ladder on whole conversions: repaired, refused with the ops named, or left alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import check_golden
from edgeloop.cli.main import main
from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.repair import ladder
from edgeloop_converters.repair.ladder import Repaired, blame
from edgeloop_converters.repair.records import EQUALIZATION, FIND, FLOAT_OPS, RUNGS, OpName, Repair, Score, Suspect
from edgeloop_converters.result import ConvertResult
from support.sabotage import DIGITS, amplify_channel, temper
from support.tiny_models import tiny_mlp


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(calibration, evaluation): 200 training and 300 held-out scans."""
    folder, split = tmp_path_factory.mktemp("data"), load_split()
    np.savez(folder / "train.npz", x=split.train_images[:200], y=split.train_labels[:200])
    np.savez(folder / "test.npz", x=split.held_out_images[:300], y=split.held_out_labels[:300])
    return str(folder / "train.npz"), str(folder / "test.npz")


def recipe_of(model: bytes, folder: Path, data: tuple[str, str], **changes: Any) -> Recipe:
    path = folder / "model.tflite"
    path.write_bytes(model)
    recipe = Recipe(
        str(path), "rpi4", *data, DIGITS, passes=plan_passes("int8", "aeq", "fast"), effort="fast",
        goals=Goals(max_drop=0.02, min_agreement=0.97),
    )  # fmt: skip
    return replace(recipe, **changes)


def changed(digits_tflite: Path, change: Any) -> bytes:
    graph = Graph.read(digits_tflite)
    graph.ensure_signature()
    change(graph)
    return graph.write()


@pytest.fixture(scope="module")
def flat(digits_tflite: Path) -> bytes:
    """All classes are near 1/10: the codes of an int8 softmax are all the same."""
    return changed(digits_tflite, lambda g: temper(g, 1e-3))


@pytest.fixture(scope="module")
def repaired(flat: bytes, data: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> ConvertResult:
    return convert(recipe_of(flat, tmp_path_factory.mktemp("flat"), data), cache=False)


def rung(result: ConvertResult, name: str) -> Repair:
    return next(r for r in result.variants[0].repairs if r.name == name)


@pytest.mark.slow
def test_a_softmax_without_steps_is_repaired(repaired: ConvertResult) -> None:
    assert repaired.gate.passed, repaired.gate.reasons
    assert repaired.variants[0].quality.metrics.agreement == 1.0
    moved = rung(repaired, FLOAT_OPS)
    assert moved.accepted and "SOFTMAX" in {op.name for op in moved.ops}
    assert moved.before is not None and moved.after is not None
    assert moved.before.agreement < 0.3 < 0.99 < moved.after.agreement
    assert moved.latency_ratio is not None and moved.bytes_after != moved.bytes_before


@pytest.mark.slow
def test_every_rung_is_recorded_with_what_it_gained_and_cost(repaired: ConvertResult) -> None:
    assert [r.name for r in repaired.variants[0].repairs] == [FIND, *RUNGS]
    found = repaired.to_dict()["repairs"]
    assert found == repaired.report["repairs"] == repaired.to_dict()["variants"][0]["repairs"]
    assert json.loads(json.dumps(found)) == found
    for one in found:
        assert set(one) == {
            "name", "detail", "tried", "accepted", "before", "after", "bytes_before", "bytes_after", "ops", "suspects",
            "latency_ratio", "seconds", "reason",
        }  # fmt: skip
    (worst, *_) = found[0]["suspects"]
    assert worst["name"] in ("SOFTMAX", "FULLY_CONNECTED") and worst["agreement"] > 0.9
    detail = found[0]["detail"]
    assert "seen on the evaluation data (accuracy drops by" in detail
    assert "every choice is made on 100 samples of calibration data that nothing else looked at" in detail


def test_a_repaired_file_is_not_called_int8_alone(repaired: ConvertResult, tmp_path: Path) -> None:
    from edgeloop.cli._quality import conversion_text

    variant = repaired.variants[0].to_dict()
    assert 0 < variant["float_ops"] < variant["ops"]
    assert f"int8   {variant['float_ops']} of {variant['ops']} ops in float" in conversion_text(
        repaired, tmp_path / "report.html"
    )


def test_the_repaired_file_travels_in_the_bundle(repaired: ConvertResult, tmp_path: Path) -> None:
    bundle = Bundle.open(repaired.bundle.save(tmp_path / "d.bundle"))
    model, golden = bundle.model(), bundle.golden()
    graph = Graph.read(model)
    assert (graph.inputs[0].dtype, graph.outputs[0].dtype) == ("int8", "float32")
    assert golden is not None
    with open_session(model) as session:
        check = check_golden(session, bundle.manifest.contract, golden, "int8")
    assert check.passed, check.reason
    assert "SOFTMAX" in bundle.report()["float_ops"]
    assert not any("stayed float" in warning for warning in repaired.warnings)


@pytest.mark.slow
def test_outputs_that_must_be_int8_stay_so_and_then_it_is_refused(
    flat: bytes, data: tuple[str, str], tmp_path: Path
) -> None:
    passes = plan_passes("int8", "aeq", "fast", io="int8")
    result = convert(recipe_of(flat, tmp_path, data, passes=passes), cache=False)
    assert Graph.read(result.variants[0].model).outputs[0].dtype == "int8"
    assert not result.gate.passed


def test_no_repair_leaves_it_as_it_came_out(flat: bytes, data: tuple[str, str], tmp_path: Path) -> None:
    recipe = recipe_of(flat, tmp_path, data, repair=False)
    result = convert(recipe, cache=False)
    assert not result.gate.passed
    assert result.variants[0].repairs == ()
    assert parse_recipe(recipe.to_toml()).repair is False
    assert parse_recipe(replace(recipe, repair=True).to_toml()).repair is True


def test_a_healthy_model_is_not_repaired(
    digits_tflite: Path, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "climb", lambda *a: pytest.fail("the ladder was climbed"))
    result = convert(recipe_of(changed(digits_tflite, lambda g: None), tmp_path, data), cache=False)
    assert result.gate.passed and result.variants[0].repairs == ()


@pytest.mark.slow
def test_an_outlier_channel_is_equalized_away_at_no_cost(
    digits_tflite: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    model = changed(digits_tflite, lambda g: amplify_channel(g, 0, 1, 3, 1000.0))
    result = convert(recipe_of(model, tmp_path, data), cache=False)
    assert result.gate.passed, result.gate.reasons
    (first,) = (r for r in result.variants[0].repairs if r.accepted)
    assert first.name == EQUALIZATION and first.before is not None and first.after is not None
    assert first.before.agreement < 0.3 < 0.97 < first.after.agreement
    assert first.bytes_before == first.bytes_after
    assert not rung(result, FLOAT_OPS).tried
    assert min(error["snr_db"] for error in result.report["per_op"]) > 10  # against the equalized float model


@pytest.mark.slow
def test_ops_move_to_float_where_channels_cannot_be_scaled(
    digits_tflite: Path, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "plan_rungs", lambda _: dict.fromkeys(RUNGS, "not now") | {FLOAT_OPS: ""})
    model = changed(digits_tflite, lambda g: amplify_channel(g, 0, 1, 3, 1000.0))
    result = convert(recipe_of(model, tmp_path, data), cache=False)
    assert result.gate.passed, result.gate.reasons
    assert {0, 1} <= {op.index for op in rung(result, FLOAT_OPS).ops}


@pytest.mark.slow
def test_what_cannot_be_repaired_is_refused_with_ops_and_numbers(
    flat: bytes, data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, contract = recipe_of(flat, tmp_path, data), tmp_path / "c.toml"
    lines = ["[input]", 'kind = "image"', "size = [8, 8]", 'color = "gray"', "mean = 0.0", "std = 255.0", "[output]"]
    contract.write_text("\n".join([*lines, 'kind = "classification"', ""]))
    argv = [
        "convert", recipe.source, "--data", data[0], "--eval", data[1], "--contract", str(contract), "--effort", "fast",
        "--io", "int8", "--min-agreement", "0.97", "-o", str(tmp_path / "s.bundle"),
    ]  # fmt: skip
    code = main([*argv, "--json"])
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert code == 1
    assert not (tmp_path / "s.bundle").exists()
    assert [r["name"] for r in result["repairs"]] == [FIND, *RUNGS]
    assert re.search(r"after the repairs: .*#\d", result["gate"]["reasons"][-1])
    assert re.search(r"\d+\.\d (dB|%)", result["gate"]["reasons"][-1])
    assert "repair, find ops" in captured.err


def test_where_no_op_is_a_suspect_the_noisiest_are_named() -> None:
    noisy = ((OpName(5, "MUL", "gate"), 0.4), (OpName(2, "CONV_2D", "stem"), 12.0))
    assert blame(Repaired(b"", (), noisiest=noisy)) == (
        "no op by itself is to blame, in float alone none helps; the noisiest outputs: MUL 'gate' 0.4 dB, "
        "CONV_2D 'stem' 12.0 dB"
    )
    before, after = Score(64, 0.5, 0.1), Score(64, 0.9, 0.01)
    suspect = Suspect(noisy[0][0], 0.4, before, after)
    said = blame(Repaired(b"", (), suspects=(suspect,), noisiest=noisy))
    assert said.startswith("MUL 'gate': signal-to-noise 0.4 dB, in float alone agreement 90.0% instead of 50.0%")
    assert said.endswith("on 64 calibration samples)")


def test_blamed_ops_are_counted_as_in_the_file_that_came_out() -> None:
    model = tiny_mlp()
    ops = Graph.read(model).main
    name = ops.tensors[ops.ops[1].outputs[0]].name
    noisy = ((OpName(7, "FULLY_CONNECTED", name), 0.4),)
    assert "FULLY_CONNECTED #1 " in blame(Repaired(model, (), noisiest=noisy))


@pytest.mark.slow
def test_on_an_edge_tpu_only_the_end_of_the_model_moves(flat: bytes, data: tuple[str, str], tmp_path: Path) -> None:
    result = convert(recipe_of(flat, tmp_path, data, target="coral-usb"), cache=False)
    assert result.gate.passed, result.gate.reasons
    moved = rung(result, FLOAT_OPS)
    indices = [op.index for op in moved.ops]
    assert indices == list(range(min(indices), 9))
    assert "behind the last mapped op" in moved.detail
    names = [op.name for op in Graph.read(result.variants[0].model).main.ops]
    assert names.index("DEQUANTIZE") > names.index("RESHAPE")


@pytest.mark.slow
def test_no_choice_looks_at_the_evaluation_data(
    repaired: ConvertResult,
    flat: bytes,
    data: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgeloop_converters.repair import apply

    original = apply.repair_exported

    def blindfolded(exported: Any, model: bytes, sources: Any, *rest: Any) -> Any:
        def read(index: int) -> np.ndarray:
            raise DataError("the evaluation data were looked at")

        shut = replace(sources.data.evaluation, read=read, labels=None)
        closed = replace(sources, data=replace(sources.data, evaluation=shut))
        return original(exported, model, closed, *rest)

    monkeypatch.setattr(apply, "repair_exported", blindfolded)
    blind = convert(recipe_of(flat, tmp_path, data), cache=False)
    assert blind.gate.passed
    assert [op.index for op in rung(blind, FLOAT_OPS).ops] == [op.index for op in rung(repaired, FLOAT_OPS).ops]


def test_schemes_without_int8_ops_say_that_nothing_was_tried(
    flat: bytes, data: tuple[str, str], tmp_path: Path
) -> None:
    recipe = recipe_of(
        flat, tmp_path, data, passes=plan_passes("dynamic", "aeq", "fast"), goals=Goals(min_agreement=1.0, max_drop=0.0)
    )
    exported = convert(recipe, cache=False)
    if not exported.gate.passed:
        (only,) = exported.variants[0].repairs
        assert not only.tried and "no int8 ops" in only.detail


def test_a_ladder_that_breaks_leaves_the_file_as_it_was(
    flat: bytes, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("no memory\nat all")

    monkeypatch.setattr(ladder, "try_units", broken)
    result = convert(recipe_of(flat, tmp_path, data), cache=False)
    (only,) = result.variants[0].repairs
    assert (only.tried, only.detail) == (False, "the repair gave up: no memory")
    assert not result.gate.passed
