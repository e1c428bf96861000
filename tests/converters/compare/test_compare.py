"""Two models or bundles beside each other, and `edgeloop compare` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop
from edgeloop.cli.main import main
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from support.sabotage import DIGITS
from support.tiny_models import tiny_mlp


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path, split = tmp_path_factory.mktemp("data") / "test.npz", load_split()
    np.savez(path, x=split.held_out_images[:120], y=split.held_out_labels[:120])
    return str(path)


@pytest.fixture
def bundle(digits_tflite: Path, data: str, tmp_path: Path) -> str:
    """int8, calibrated on half of `data`."""
    recipe = Recipe(
        str(digits_tflite), "rpi4", data, None, DIGITS, passes=plan_passes("int8", "aeq", "fast"), effort="fast"
    )
    return str(convert(recipe, cache=False).bundle.save(tmp_path / "d.bundle"))


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["compare", *argv, "--json", "--no-cache"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return code, json.loads(out)


def test_a_model_and_its_bundle(
    digits_tflite: Path, bundle: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = compared(
        capsys, str(digits_tflite), bundle, "--data", data, "--runs", "20",
        "--fail-on", "size>0.5x,drop>5pt,agreement<0.9,ops>1.5x",
    )  # fmt: skip
    assert (code, result["passed"], result["reasons"]) == (0, True, [])
    assert set(result) == {
        "a", "b", "target", "size_ratio", "xz_ratio", "latency_ratio", "op_changes", "placement", "drop", "agreement",
        "agreement_kind", "samples", "fail_on", "passed", "reasons", "notes", "seconds",
    }  # fmt: skip
    a, b = result["a"], result["b"]
    assert (a["scheme"], b["scheme"], b["name"], b["version"]) == ("float", "int8", "digits", 1)
    assert a["bytes"] == digits_tflite.stat().st_size
    assert result["size_ratio"] == b["bytes"] / a["bytes"] < 0.5
    assert result["target"] == "rpi4"  # the bundle's own
    assert result["samples"] == 120 and result["agreement"] > 0.9
    assert result["drop"] == pytest.approx(a["accuracy"] - b["accuracy"])
    assert {"device", "delegate", "threads", "n", "p50_ms"} <= set(a["latency"])
    assert [t["failed"] for t in result["fail_on"]] == [False] * 4


def test_what_got_worse_is_exit_code_1_and_named(
    digits_tflite: Path, bundle: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [bundle, str(digits_tflite), "--data", data, "--no-latency", "--fail-on", "size>1.1x,agreement<0.5"]
    code, result = compared(capsys, *argv)
    assert code == 1
    (reason,) = result["reasons"]
    assert reason.startswith("size>1.1x: size is ")
    assert main(["compare", *argv, "--no-cache"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out and reason in out and "p50" not in out


def test_a_model_compared_with_itself_is_the_same(digits_tflite: Path, data: str) -> None:
    same = edgeloop.compare(digits_tflite, digits_tflite, data=data, hints=None, latency=False, cache=False)
    assert (same.quality.agreement, same.drop, same.changes.ops) == (1.0, 0.0, ())  # type: ignore[union-attr]
    assert same.passed


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ("drop>1pt", "needs --data"),
        ("unmapped>0", "needs --target"),
        ("latency>2x", "--no-latency"),
        ("fps>1", "known"),
    ],
)
def test_terms_that_cannot_be_judged_are_wrong_use(
    digits_tflite: Path, terms: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compare", str(digits_tflite), str(digits_tflite), "--no-latency", "--fail-on", terms])
    assert code == 2
    assert why in capsys.readouterr().err


def test_a_drop_needs_labels(digits_tflite: Path, data: str) -> None:
    with pytest.raises(UsageError, match="labelled"):
        edgeloop.compare(digits_tflite, digits_tflite, data=data, ignore_labels=True, fail_on="drop>1pt")


@pytest.mark.slow
def test_bundles_of_different_contracts_are_each_fed_by_their_own(
    digits_tflite: Path, data: str, tmp_path: Path
) -> None:
    shifted = replace(DIGITS, inputs=(replace(DIGITS.inputs[0], std=(200.0,)),))
    paths = []
    for name, contract in (("one", DIGITS), ("two", shifted)):
        recipe = Recipe(
            str(digits_tflite), "rpi4", data, None, contract, passes=plan_passes("int8", "aeq", "fast"), effort="fast",
            name=name,
        )  # fmt: skip
        paths.append(convert(recipe, cache=False).bundle.save(tmp_path))
    result = edgeloop.compare(*paths, data=data, latency=False, cache=False)
    assert result.quality is not None and result.quality.agreement is not None
    assert 0.5 < result.quality.agreement <= 1.0
    assert any("different contracts" in note for note in result.notes)
    with pytest.raises(UsageError, match="brings its own contract"):
        edgeloop.compare(*paths, data=data, contract="c.toml", latency=False)


def test_bundles_of_other_classes_need_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32))
    paths = []
    for classes in (3, 5):
        model = tmp_path / f"m{classes}.tflite"
        model.write_bytes(tiny_mlp(classes=classes))
        contract = Contract((InputSpec("features", shape=(10,), std=(classes,)),), OutputSpec("classification"))
        recipe = Recipe(
            str(model), "rpi4", str(tmp_path / "d.npz"), None, contract, passes=plan_passes("int8", "aeq", "fast"),
            effort="fast", name=model.stem,
        )  # fmt: skip
        paths.append(convert(recipe, cache=False).bundle.save(tmp_path))
    with pytest.raises(UsageError, match="3 and 5 classes"):
        edgeloop.compare(*paths, data=str(tmp_path / "d.npz"), latency=False, cache=False)


def test_the_bundle_that_the_data_do_not_fit_is_named(tmp_path: Path) -> None:
    paths = []
    for features in (10, 7):
        model = tmp_path / f"of{features}.tflite"
        model.write_bytes(tiny_mlp(features=features))
        np.savez(
            tmp_path / f"{features}.npz", x=np.random.default_rng(0).normal(size=(40, features)).astype(np.float32)
        )
        contract = Contract((InputSpec("features", shape=(features,)),), OutputSpec("classification"))
        recipe = Recipe(
            str(model), "rpi4", str(tmp_path / f"{features}.npz"), None, contract,
            passes=plan_passes("int8", "aeq", "fast"), effort="fast", name=model.stem,
        )  # fmt: skip
        paths.append(convert(recipe, cache=False).bundle.save(tmp_path))
    with pytest.raises(UsageError, match=r"B \(of7\): .*takes \[7\], got \[10\]"):
        edgeloop.compare(*paths, data=str(tmp_path / "10.npz"), latency=False, cache=False)


def test_a_reference_that_is_another_model_is_said(digits_tflite: Path, data: str, tmp_path: Path) -> None:
    (tmp_path / "other.tflite").write_bytes(tiny_mlp())
    with pytest.raises(UsageError, match=r"--reference .* is another model: .*\[1, 10\] and \[1, 8, 8, 1\]"):
        edgeloop.evaluate(digits_tflite, data, reference=tmp_path / "other.tflite", cache=False)


def test_placement_and_ops_that_differ_are_shown(digits_tflite: Path, bundle: str) -> None:
    result = edgeloop.compare(digits_tflite, bundle, target="coral-usb", latency=False)
    assert result.a.unmapped == 9
    assert result.b.unmapped == 9 - result.changes.placement["edgetpu"].b < 9
    graph = Graph.read(digits_tflite)
    assert sum(result.a.op_counts.values()) == len(graph.main.ops)


def test_a_model_that_does_not_run_here_is_compared_without_latency(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coral = shared_data / "models" / "coral"
    before, after = (str(coral / f"mobilenet_v1_0.25_128_quant{end}.tflite") for end in ("", "_edgetpu"))
    code, result = compared(capsys, before, after, "--target", "coral-usb", "--fail-on", "size>2x")
    assert code == 0
    assert result["latency_ratio"] is None and result["a"]["latency"] is None
    assert any("latency is not known" in note for note in result["notes"])
    assert result["placement"]["edgetpu"] == {"name": "edgetpu", "a": 31, "b": 1}
    assert compared(capsys, before, after, "--fail-on", "latency>9x")[0] == 1


def test_a_function_of_ones_own_may_be_evaluated_and_compared(
    digits_tflite: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeloop_converters import subjects

    asked: list[str] = []

    def made(path: Path, *_: object, **__: object) -> FloatModel:
        asked.append(str(path))
        return FloatModel(digits_tflite.read_bytes(), "torch_function")

    monkeypatch.setattr(subjects, "to_float_tflite", made)
    result = edgeloop.compare("my_models:digits", digits_tflite, data=data, latency=False, cache=False)
    assert asked == ["my_models:digits"]
    assert result.a.subject.scheme == "float" and result.quality is not None
    assert edgeloop.evaluate("my_models:digits", data, cache=False).quality.metrics.this is not None


def test_models_that_take_other_inputs_are_named_with_both(tmp_path: Path) -> None:
    for name, features in (("a", 10), ("b", 12)):
        (tmp_path / f"{name}.tflite").write_bytes(tiny_mlp(features=features))
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 10), np.float32))
    with pytest.raises(UsageError, match=r"take other inputs: A \[10\], B \[12\]"):
        edgeloop.compare(tmp_path / "a.tflite", tmp_path / "b.tflite", data=tmp_path / "x.npz", latency=False)
