"""A model that was compiled elsewhere goes into a bundle that exists; models come out of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.bundle.manifest_reading import manifest_from_dict
from edgeloop.cli.main import main
from support.edgetpu import compiled
from support.single_ops import CASES, build
from support.tiny_models import tiny_cnn

CONTRACT = "[input]\nkind = 'tensor'\nshape = [8, 8, 4]\n[output]\nkind = 'raw'\n"
CONV = build(next(case for case in CASES if case.op == "CONV_2D"), "int8").write()
RELU = build(next(case for case in CASES if case.op == "RELU6"), "int8").write()


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = main([*map(str, arguments), "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.err


@pytest.fixture
def bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONTRACT)
    (tmp_path / "int8.tflite").write_bytes(CONV)
    path = tmp_path / "x.bundle"
    made = call(
        capsys,
        "bundle",
        "create",
        "int8.tflite",
        "--contract",
        "c.toml",
        "--target",
        "coral-usb",
        "--name",
        "x",
        "-o",
        path,
    )
    assert made[0] == 0
    return path


def edgetpu_file(folder: Path, model: bytes = CONV) -> Path:
    path = folder / "int8_edgetpu.tflite"
    path.write_bytes(compiled(model))
    return path


def test_evaluate_and_compare_look_at_the_variant_that_runs_on_this_host(bundle, tmp_path, capsys):
    both, data = tmp_path / "both.bundle", tmp_path / "x.npz"
    call(capsys, "bundle", "create", bundle, "--add-variant", f"edgetpu={edgetpu_file(tmp_path)}", "-o", both)
    np.savez(data, x=np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32))
    code, found, notes = call(capsys, "evaluate", both, "--data", data, "--no-cache")
    assert (code, found["variants"][0]["name"]) == (0, "int8")
    assert "int8 is looked at, since edgetpu is compiled for an accelerator" in notes
    code, found, _ = call(capsys, "compare", bundle, both, "--data", data, "--no-latency", "--no-cache")
    assert (code, found["agreement"]) == (0, 1.0)
    assert main(["evaluate", str(both), "--variant", "edgetpu", "--data", str(data)]) == 2
    assert "one that does: int8" in capsys.readouterr().err


def test_a_compiled_variant_comes_first_and_all_else_stays(bundle, tmp_path, capsys):
    file = edgetpu_file(tmp_path)
    code, made, notes = call(capsys, "bundle", "create", bundle, "--add-variant", f"edgetpu={file}")
    assert code == 0, made
    assert "what it computes is not checked here" in notes
    assert (made["bundle"], made["version"], made["target"]) == ("x-2.bundle", 2, "coral-usb")
    assert [(v["name"], v["scheme"], v["delegates"]) for v in made["variants"]] == [
        ("edgetpu", "int8, compiled", ["edgetpu"]), ("int8", "int8", ["xnnpack", "cpu"]),
    ]  # fmt: skip
    old, new = Bundle.open(bundle), Bundle.open("x-2.bundle")
    assert new.signed_by == old.signed_by is not None
    assert new.model() == file.read_bytes() and new.model("int8") == CONV
    assert new.manifest.contract == old.manifest.contract
    assert (new.recipe(), new.report(), new.manifest.runtime) == (old.recipe(), old.report(), old.manifest.runtime)
    assert new.manifest.provenance["added"]["edgetpu"]["from"] == "int8"
    before, after = old.golden(), new.golden()
    assert before is not None and after is not None
    assert after.tolerance_steps == before.tolerance_steps
    for name, array in before.inputs.items():
        assert np.array_equal(after.inputs[name], array)
    expected = before.outputs["int8"]["tflite-runtime"]
    assert all(np.array_equal(a, b) for a, b in zip(after.outputs["edgetpu"]["tflite-runtime"], expected, strict=True))
    assert set(after.outputs) == {"int8", "edgetpu"}


def test_for_another_target_it_comes_last(bundle, tmp_path, capsys):
    file = edgetpu_file(tmp_path)
    made = call(capsys, "bundle", "create", bundle, "--add-variant", f"e={file}", "--target", "rpi4", "-o", "y.bundle")[
        1
    ]
    assert [v["name"] for v in made["variants"]] == ["int8", "e"]
    assert manifest_from_dict(made).variants[0].name == "int8"


def test_the_version_rises_above_that_of_the_bundle(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "another machine"))
    file = edgetpu_file(tmp_path)
    code, made, notes = call(capsys, "bundle", "create", bundle, "--add-variant", f"edgetpu={file}")
    assert (code, made["version"]) == (0, 2)
    assert "not signed by a key this machine trusts" in notes
    again = call(capsys, "bundle", "create", bundle, "--add-variant", f"edgetpu={file}", "--version", "1")
    assert again[0] == 2 and "has version 1 already" in again[1]["error"]["message"]


def test_what_does_not_fit_is_one_line_and_leaves_nothing(bundle, tmp_path, capsys):
    file, other = edgetpu_file(tmp_path), tmp_path / "other_edgetpu.tflite"
    other.write_bytes(compiled(RELU))
    (tmp_path / "foreign.tflite").write_bytes(compiled(tiny_cnn()))
    (tmp_path / "cut.tflite").write_bytes(file.read_bytes()[:300])
    before = set(tmp_path.glob("*.bundle"))
    for arguments, expected, says in (
        ([bundle, "--add-variant", f"int8={file}"], 2, "has a variant 'int8'"),
        ([bundle, "--add-variant", f"edgetpu={other}"], 2, "compiled from none of the variants"),
        ([bundle, "--add-variant", f"edgetpu={tmp_path / 'foreign.tflite'}"], 2, "foreign.tflite is another model"),
        ([bundle, "--add-variant", f"edgetpu={tmp_path / 'int8.tflite'}"], 2, "not compiled for the Edge TPU"),
        ([bundle, "--add-variant", f"edgetpu={tmp_path / 'no.tflite'}"], 2, "no.tflite"),
        ([bundle, "--add-variant", f"edgetpu={tmp_path / 'cut.tflite'}"], 4, "damaged"),
        ([bundle, "--add-variant", f"edgetpu={bundle}"], 2, "not a .tflite model"),
        ([bundle, "--add-variant", "edgetpu"], 2, "write NAME=FILE"),
        ([bundle, "--add-variant", f"../x={file}"], 2, "cannot name a variant"),
        (["--add-variant", f"edgetpu={file}"], 2, "needs one bundle"),
        ([bundle, "--add-variant", f"edgetpu={file}", "--contract", "c.toml"], 2, "--contract is for a new bundle"),
        ([file, "--add-variant", f"edgetpu={file}"], 2, "int8_edgetpu.tflite"),
        ([tmp_path / "int8.tflite"], 2, "needs --contract"),
    ):
        code, answer, err = call(capsys, "bundle", "create", *arguments)
        assert (code, answer["error"]["exit_code"]) == (expected, expected), (arguments, answer)
        assert says in answer["error"]["message"], answer
        assert "Traceback" not in err
    assert set(tmp_path.glob("*.bundle")) == before


def test_a_model_comes_out_as_it_went_in(bundle, tmp_path, capsys):
    code, data, _ = call(capsys, "bundle", "extract", bundle, "int8")
    assert (code, data["file"], data["variant"]) == (0, "x_int8.tflite", "int8")
    assert Path("x_int8.tflite").read_bytes() == CONV
    assert "x_int8.tflite was there already and is replaced" in call(capsys, "bundle", "extract", bundle)[2]


def test_a_damaged_bundle_says_what_to_do(bundle, tmp_path, capsys):
    (tmp_path / "cut.bundle").write_bytes(Path(bundle).read_bytes()[:500])
    code, answer, _ = call(capsys, "bundle", "verify", tmp_path / "cut.bundle")
    assert code == 4 and answer["error"]["hint"].startswith("copy it again")
    assert call(capsys, "bundle", "extract", bundle, "-o", tmp_path / "m.tflite")[0] == 0
    assert call(capsys, "bundle", "extract", bundle, "nope")[0] == 2
    assert call(capsys, "bundle", "extract", bundle, "-o", tmp_path / "no" / "m.tflite")[0] == 2


def test_both_packed_at_once_are_in_that_order_and_both_can_be_tested(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONTRACT)
    (tmp_path / "int8.tflite").write_bytes(CONV)
    edgetpu_file(tmp_path)
    pair = ["--variant", "int8=int8.tflite", "--variant", "edgetpu=int8_edgetpu.tflite", "--contract", "c.toml"]
    code, made, _ = call(capsys, "bundle", "create", *pair, "--target", "coral-dev-board", "-o", "z.bundle")
    assert code == 0
    assert [v["name"] for v in made["variants"]] == ["edgetpu", "int8"]
    golden = Bundle.open("z.bundle").golden()
    assert golden is not None and set(golden.outputs) == {"edgetpu", "int8"}
    (tmp_path / "int8_edgetpu.tflite").write_bytes(compiled(RELU))
    code, answer, _ = call(capsys, "bundle", "create", *pair, "-o", "no.bundle")
    assert code == 2 and "no other variant is the model it was compiled from" in answer["error"]["message"]
