"""`edgeloop check-data` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgeloop
from edgeloop.cli.main import main
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.demo.digits import load_split


@pytest.fixture
def scans() -> dict[str, np.ndarray]:
    split = load_split()
    return {"x": split.held_out_images, "y": split.held_out_labels}


def save(folder: Path, **arrays: np.ndarray) -> str:
    np.savez(folder / "d.npz", **arrays)
    return str(folder / "d.npz")


def check(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main(["check-data", *argv, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return code, json.loads(out)


def test_good_data_exit_0_with_no_finding(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = check(capsys, str(digits_tflite), "--data", save(tmp_path, **scans))
    assert (code, result["ok"], result["findings"]) == (0, True, [])
    assert result["accuracy"] > 0.9
    assert main(["check-data", str(digits_tflite), "--data", str(tmp_path / "d.npz")]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_a_severe_finding_exits_1_with_its_fix(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--mean", "255", "--std", "20"]
    data = save(tmp_path, **scans)
    code, result = check(capsys, str(digits_tflite), "--data", data, *wrong)
    assert (code, result["ok"], result["severe"]) == (1, False, 1)
    (finding,) = [f for f in result["findings"] if f["severity"] == "severe"]
    assert finding["check"] == "contract"
    assert finding["fix"].startswith("--mean 0 --std")
    assert finding["numbers"]["other_accuracy"] > 0.9
    assert main(["check-data", str(digits_tflite), "--data", data, *wrong]) == 1
    assert capsys.readouterr().out.startswith("severe ")


@pytest.mark.parametrize("given", [True, False])
def test_without_labels_it_says_what_could_not_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: bool
) -> None:
    from support.tiny_models import tiny_cnn

    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_cnn())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(pictures / f"{i}.png"), pixels)
    code, result = check(capsys, str(model), "--data", str(pictures), *(["--mean", "0", "--std", "255"] * given))
    said = {f["check"]: f"{f['severity']}: {f['what']} -> {f['fix']}" for f in result["findings"]}
    assert code == 0
    assert said["labels"].startswith("warning: no labels: scaling, color and class order were not checked -> give")
    assert ("contract" in said) is not given
    if not given:
        assert said["contract"].startswith("warning: input scaling is a guess: raw pixels 0..255")
        assert "-> say --mean and --std" in said["contract"]


def test_a_contract_that_cannot_be_is_told_from_data_that_do_not_fit(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "c.toml"
    contract.write_text('[input]\nkind = "image"\nsize = [28, 28]\ncolor = "rgb"\nmean = [1, 2]\n')
    data = save(tmp_path, **scans)
    code, result = check(capsys, str(digits_tflite), "--data", data, "--contract", str(contract))
    assert (code, result["findings"][0]["fix"]) == (1, "correct it in the contract")


def test_axes_in_the_wrong_order_are_a_finding_and_no_crash(
    digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeloop.graph import Graph
    from support.tiny_models import tiny_cnn

    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_cnn())
    assert Graph.read(model).inputs[0].shape == (1, 8, 8, 3)
    x = np.random.default_rng(0).random((40, 3, 8, 8), np.float32)
    code, result = check(capsys, str(model), "--data", save(tmp_path, x=x))
    assert (code, [f["check"] for f in result["findings"]]) == (1, ["layout"])


def test_data_that_do_not_fit_are_a_finding(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    data = save(tmp_path, x=scans["x"], y=scans["y"] + 5)
    code, result = check(capsys, str(digits_tflite), "--data", data)
    assert (code, result["findings"][0]["check"]) == (1, "fit")
    assert "class id 14" in result["findings"][0]["what"]


def test_the_same_data_twice_is_a_leak(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    data = save(tmp_path, **scans)
    code, result = check(capsys, str(digits_tflite), "--data", data, "--eval", data)
    assert code == 1
    assert "leak" in [f["check"] for f in result["findings"]]


def test_class_ids_from_one_are_told_apart_from_other_misfits(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    data = save(tmp_path, x=scans["x"], y=scans["y"] + 1)
    code, result = check(capsys, str(digits_tflite), "--data", data)
    assert (code, result["findings"][0]["check"]) == (1, "fit")
    assert "start at 1" in result["findings"][0]["fix"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--samples", "0"], "--samples must be at least 1"),
        (["--calibration-samples", "-1"], "--calibration-samples must be at least 1"),
        (["--data", "nowhere"], "no such file or folder"),
        ([], "data are missing"),
    ],
)
def test_misuse_is_one_line(
    digits_tflite: Path, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-data", str(digits_tflite), *argv]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_the_facade_says_the_same(digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray]) -> None:
    data = save(tmp_path, **scans)
    good = edgeloop.check_data(digits_tflite, data=data, cache=False)
    assert not good.is_severe and good.verdict is not None and good.verdict.accuracy > 0.9
    wrong = edgeloop.check_data(digits_tflite, data=data, hints=ContractFlags(mean=(255.0,), std=(20.0,)), cache=False)
    assert wrong.is_severe
    assert wrong.findings[0].check == "contract"


def test_data_from_the_field_can_contradict_a_bundle(
    digits_tflite: Path, tmp_path: Path, scans: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    data = save(tmp_path, **scans)
    bundle = str(tmp_path / "d.bundle")
    assert main(["convert", str(digits_tflite), "--data", data, "--effort", "fast", "-o", bundle]) == 0
    capsys.readouterr()
    code, result = check(capsys, bundle, "--data", data)
    assert (code, result["findings"], result["samples"]["calibration"]) == (0, [], 0)
    assert result["accuracy"] > 0.9
    code, result = check(capsys, bundle, "--data", save(tmp_path, x=255 - 15 * scans["x"], y=scans["y"]))
    assert (code, result["ok"]) == (1, False)
    assert main(["check-data", bundle, "--data", data, "--std", "3"]) == 2
    assert "brings its own contract" in capsys.readouterr().err
