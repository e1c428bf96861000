"""`edgeloop analyze` on every kind of file, good and bad."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.cli.main import main
from edgeloop.contract import Contract, InputSpec
from edgeloop.graph import Graph
from support.edgetpu import compiled, stand_in
from support.single_ops import CASES, build
from support.tiny_models import tiny_cnn, tiny_mlp


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_cnn())
    return path


def test_text_has_summary_and_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(model), "--target", "rpi4"]) == 0
    out = capsys.readouterr().out
    for line in (
        "m.tflite on Raspberry Pi 4 (rpi4)",
        "  computes in    float32",
        "  inputs         image [1, 8, 8, 3] float32",
        "  MACs           4.64 k (4,640)",
        "  parameters     340 in 3 layers",
        "  peak memory    1.2 KiB of activations",
        "  xnnpack        5 of 5 ops (confirmed)",
    ):
        assert line in out.splitlines()
    rows = [line.split() for line in out.splitlines() if line.lstrip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


def test_text_names_the_first_op_left_behind_and_why(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(model), "--target", "coral-usb"]) == 0
    out = capsys.readouterr().out
    assert "edgetpu        0 of 5 ops (predicted)" in out
    assert "not edgetpu    first op 0 (CONV_2D): only 8-bit integers, this has float32" in out
    assert "try: CONV_2D, DEPTHWISE_CONV_2D, MEAN and 2 kinds more: quantize it" in out


def test_json_is_one_object_and_nothing_else(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(model), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["macs"], data["parameters"], data["layers"], data["peak_memory_bytes"]) == (4640, 340, 3, 1280)
    assert data["ops"][0] == {"index": 0, "name": "CONV_2D", "placement": "xnnpack", "reason": ""}
    assert data["delegates"] == {"xnnpack": {"mapped_ops": 5, "total_ops": 5, "status": "confirmed"}}
    assert (data["xnnpack"]["first_off"], data["xnnpack"]["borders"], data["xnnpack"]["partitions"]) == (None, 0, 1)


def test_rules_alone_are_marked_as_predictions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(model), "--predict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["delegates"]["xnnpack"]["status"] == "predicted"
    assert main(["analyze", str(model), "--target", "generic-armv7", "--json"]) == 0  # another runtime than ours
    assert json.loads(capsys.readouterr().out)["delegates"]["xnnpack"]["status"] == "predicted"


def test_edge_tpu_is_confirmed_where_its_compiler_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(build(next(case for case in CASES if case.op == "CONV_2D"), "int8").write())
    stand_in(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["analyze", str(path), "--target", "coral-usb", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["delegates"]["edgetpu"] == {"mapped_ops": 1, "total_ops": 1, "status": "confirmed"}
    assert (data["edgetpu"]["on_chip_bytes"], data["edgetpu"]["is_exact"]) == (66 << 10, True)


def test_a_compiler_that_fails_leaves_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(build(next(case for case in CASES if case.op == "CONV_2D"), "int8").write())
    stand_in(tmp_path, says="Internal compiler error. Aborting!", code=1)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["analyze", str(path), "--target", "coral-usb", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["delegates"]["edgetpu"]["status"] == "predicted"
    assert "edgetpu is predicted only: edgetpu_compiler failed: Internal compiler error" in captured.err


@pytest.mark.parametrize("signed", [True, False])
def test_bundle_is_analyzed_for_its_own_target(
    signed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "b.bundle"
    variants = [VariantDraft("a", tiny_cnn(), "float", ("cpu",)), VariantDraft("b", tiny_mlp(), "float", ("cpu",))]
    draft = BundleDraft("b", 1, "coral-usb", Contract((InputSpec(shape=(8, 8, 3)),)), variants)
    write_bundle(path, draft, load_or_create_signing_key() if signed else None)
    assert main(["analyze", str(path), "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert list(data["delegates"]) == ["edgetpu", "xnnpack"] and len(data["ops"]) == 5
    assert ("not signed" in captured.err) is not signed
    assert main(["analyze", str(path), "--variant", "b", "--target", "rpi4", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["delegates"]) == ["xnnpack"] and len(data["ops"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.tflite"], 2, "nowhere.tflite"),
        (["{dir}"], 2, "not a model"),
        (["{cut}"], 4, "cut.tflite: damaged .tflite model"),
        (["{text}"], 4, "text.tflite: not a .tflite model"),
        (["{zip}"], 4, "z.bundle"),
        (["{model}", "--target", "toaster"], 2, "toaster"),
        (["{model}", "--variant", "int8"], 2, "only bundles have variants"),
    ],
)
def test_wrong_use_and_bad_files_are_one_line(
    arguments: list[str], code: int, says: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"cut.tflite": tiny_cnn()[:900], "text.tflite": b"what is this?", "z.bundle": b"PK\3\4 no zip after all"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = {"dir": tmp_path, "model": model, "zip": tmp_path / "z.bundle"}
    names |= {"cut": tmp_path / "cut.tflite", "text": tmp_path / "text.tflite"}
    assert main(["analyze", *(a.format(**names) for a in arguments)]) == code
    captured = capsys.readouterr()
    assert says in captured.err and captured.out == ""
    assert "Traceback" not in captured.err and len(captured.err.splitlines()) <= 2


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_names_cannot_write_to_the_terminal(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph.read(tiny_cnn())
    graph.main.tensors[0].name = "\x1b]0;owned\x07" + "x" * 1000
    graph.main.ops[-1].name, graph.main.ops[-1].custom = "\x1b[2J\udcff", True
    graph.save(tmp_path / "m.tflite")
    assert main(["analyze", str(tmp_path / "m.tflite"), *flags]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out
    assert max(map(len, out.splitlines())) < (10_000 if flags else 200)


def test_a_model_without_suffix_is_known_by_its_content(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model, tmp_path / "model")
    assert main(["analyze", str(tmp_path / "model")]) == 0
    assert "CONV_2D" in capsys.readouterr().out


@pytest.mark.tensorflow
def test_a_keras_model_is_converted_first(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared_data / "models" / "mlperf_tiny" / "pretrainedResnet.h5"
    assert main(["analyze", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["macs"] == pytest.approx(12.5e6, rel=0.001)


def test_a_compiled_file_runs_nowhere_on_a_board_without_its_accelerator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m_edgetpu.tflite"
    path.write_bytes(compiled(tiny_cnn()))
    assert main(["analyze", str(path), "--target", "rpi4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [op["placement"] for op in result["ops"]] == ["nowhere"]
    assert result["delegates"]["edgetpu"]["mapped_ops"] == 0
    assert main(["analyze", str(path), "--target", "rpi4"]) == 0
    out = capsys.readouterr().out
    assert "this file cannot run on rpi4: it needs an Edge TPU; give the int8 file, or --target coral-usb" in out
    assert "  MACs           not visible\n  parameters     not visible\n" in out
