"""`--scheme` and its options as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.cli.main import main
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.export import check_loads
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.schemes import SCHEMES
from edgeloop_converters.schemes.job import Job
from support.tiny_models import tiny_cnn


@pytest.fixture
def common(tmp_path: Path, digits_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    split = load_split()
    np.savez(tmp_path / "d.npz", x=split.held_out_images[:150], y=split.held_out_labels[:150])
    monkeypatch.chdir(tmp_path)
    return ["convert", str(digits_tflite), "--data", "d.npz", "--std", "255", "--mean", "0", "--effort", "fast"]


def test_options_reach_the_file_and_the_recipe(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--scheme", "int8-compact", "--bits", "4", "--io", "uint8", "-o", "a.bundle", "--json"]
    assert main([*common, *flags]) == 0
    variant = json.loads(capsys.readouterr().out)["variants"][0]
    assert (variant["name"], variant["scheme"]) == ("int8-compact", "int8-compact")
    assert variant["file"] == "models/int8-compact.tflite"
    assert 0 < variant["xz_bytes"] < variant["bytes"]
    bundle = Bundle.open("a.bundle")
    assert {t.dtype for t in Graph.read(bundle.model()).inputs} == {"uint8"}
    recipe = parse_recipe(bundle.recipe())
    assert (recipe.scheme, recipe.scheme_options, recipe.io) == ("int8-compact", {"bits": 4}, "uint8")


@pytest.mark.parametrize(
    ("flags", "says", "way_out"),
    [
        (["--scheme", "int3"], "scheme 'int3' is not known", "int8-per-tensor"),
        (["--scheme", "16x8", "--target", "coral-usb"], "the Edge TPU computes in int8 only", "--scheme int8"),
        (["--scheme", "fp16", "--io", "uint8"], "computes in float", "--scheme int8"),
        (["--scheme", "a16w8", "--io", "int8"], "computes in 16 bit", "--io float"),
        (["--io", "int4"], "--io 'int4' is not known", "uint8"),
        (["--bits", "4"], "--scheme int8 has no option 'bits'", "int8-compact"),
        (["--scheme", "mixed", "--budget", "3"], "budget cannot be 3", "4, 1, 2, 8"),
        (["--scheme", "dynamic", "--engine", "tflite"], "makes int8 only", "--engine"),
    ],
)
def test_wrong_use_is_one_line_with_a_way_out(
    flags: list[str], says: str, way_out: str, common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*common, *flags]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert way_out in error
    assert "Traceback" not in error
    assert not list(Path().glob("*.bundle"))


def test_a_file_that_no_runtime_loads_is_the_schemes_fault() -> None:
    model = tiny_cnn()
    nothing = Ranges({t.name: (0.0, 1e-30) for t in Graph.read(model).main.tensors if not t.is_constant}, 1)
    load = SCHEMES["a16w8"].load
    assert load is not None
    done = load()(Job(model, nothing))
    with pytest.raises(UsageError, match="--scheme a16w8: the runtime cannot load"):
        check_loads(done.tflite, "a16w8")
