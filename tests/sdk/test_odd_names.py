"""Files whose names are not UTF-8 are taken by every verb, and `--json` stays JSON."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.cli.main import main
from edgeloop.paths import is_utf8
from edgeloop_converters.demo.digits import load_split
from support.agents import make_bundle

MODEL, DATA, BUNDLE = (os.fsdecode(b"\xff" + name) for name in (b".tflite", b".npz", b".bundle"))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, digits_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits_tflite, MODEL)
    split = load_split()
    np.savez("data.npz", x=split.train_images[:200], y=split.train_labels[:200])
    Path("data.npz").rename(DATA)
    make_bundle(Path(BUNDLE))


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", MODEL],
        ["bench", MODEL, "-n", "3"],
        ["bench", BUNDLE, "-n", "3"],
        ["check-data", MODEL, "--data", DATA],
        ["evaluate", BUNDLE, "--data", DATA],
        ["convert", MODEL, "--data", DATA, "--effort", "fast", "-o", BUNDLE],
        ["bundle", "inspect", BUNDLE],
        ["bundle", "verify", BUNDLE],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).encode("ascii", "replace").decode(),
)
def test_a_verb_takes_names_that_are_not_utf8(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "error" not in json.loads(out)


def test_what_a_bundle_tells_of_such_a_file_is_unicode() -> None:
    assert main(["convert", MODEL, "--data", DATA, "--effort", "fast", "-o", "out.bundle", "--json"]) == 0
    bundle = Bundle.open(Path("out.bundle"))
    assert bundle.manifest.provenance["source"] == "?.tflite"
    assert all(map(is_utf8, (bundle.recipe(), str(bundle.report()), str(bundle.manifest))))
