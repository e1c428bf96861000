"""What a cascade trades: read off two models' answers, in `evaluate --cascade` and in the bundle's report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.cli.main import main
from edgeloop_converters.cascades import Answers, cascade_lines, trade
from edgeloop_converters.demo.digits import load_split
from support.agents import digits_int8
from support.tiny_models import TinyBuilder

CONTRACT = """[input]
kind = "image"
size = [8, 8]
color = "gray"
std = 255.0

[output]
kind = "classification"
"""


def answers(ids: list[int], sure: list[float], ms: float) -> Answers:
    return Answers(np.array(ids), np.array(sure), np.full(len(ids), ms))


def test_every_point_is_what_asking_below_the_threshold_gives() -> None:
    light = answers([1, 2, 3, 4], [0.95, 0.4, 0.75, 0.55], 1.0)
    heavy = answers([1, 0, 0, 4], [1.0, 1.0, 1.0, 1.0], 10.0)
    found = trade(("light", light), ("heavy", heavy), np.array([1, 0, 3, 4]))
    by_threshold = {p.threshold: p for p in found.points}
    assert by_threshold[0.0].accuracy == 0.75 and by_threshold[0.0].cost == pytest.approx(0.1)
    assert by_threshold[0.5].escalated == 0.25 and by_threshold[0.5].accuracy == 1.0
    assert by_threshold[0.5].agreement == 0.75 and by_threshold[0.5].cost == pytest.approx(0.35)
    assert by_threshold[0.8].escalated == 0.75 and by_threshold[0.8].accuracy == 0.75
    assert by_threshold[None].cost == 1.0 and by_threshold[None].agreement == 1.0
    assert found.proposed == 0.5 and "--cascade light:0.5" in cascade_lines(found.to_dict())[-1]


def test_without_labels_the_heavy_models_answers_count_and_a_light_one_that_is_never_sure_is_proposed_nowhere() -> None:
    light, heavy = answers([1, 2, 3], [0.1, 0.2, 0.3], 1.0), answers([1, 1, 1], [1.0] * 3, 2.0)
    found = trade(("light", light), ("heavy", heavy), None)
    assert all(p.accuracy is None for p in found.points) and found.proposed is None
    assert "no threshold is cheaper" in cascade_lines(found.to_dict())[-1]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """heavy.tflite and light.tflite, their contract and labeled digits."""
    split = load_split()
    np.savez(tmp_path / "data.npz", x=split.held_out_images[:120], y=split.held_out_labels[:120])
    (tmp_path / "c.toml").write_text(CONTRACT)
    (tmp_path / "light.tflite").write_bytes(digits_int8())
    b = TinyBuilder(3)
    x = b.conv(b.conv(b.input("image", (1, 8, 8, 1)), 96), 96)
    (tmp_path / "heavy.tflite").write_bytes(b.finish(b.softmax(b.dense(b.mean(x), 10))).write())
    return tmp_path


@pytest.mark.slow
def test_a_bundle_of_finished_models_is_measured_and_its_report_has_the_trade(files: Path, capsys) -> None:
    names = [f"--variant={name}={files}/{name}.tflite" for name in ("heavy", "light")]
    bundle = files / "two.bundle"
    words = ["bundle", "create", *names, "--contract", str(files / "c.toml"), "--eval", str(files / "data.npz")]
    assert main([*words, "-o", str(bundle), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    opened = Bundle.open(bundle)
    heavy, light = opened.manifest.variants
    assert heavy.metrics is not None and light.metrics is not None
    assert heavy.metrics.n == 120 and heavy.metrics.agreement == 1.0 and light.metrics.metric == "accuracy"
    assert opened.report()["cascade"] == printed["cascade"]
    assert printed["cascade"]["points"][0]["accuracy"] == light.metrics.this
    assert main(["evaluate", str(bundle), "--data", str(files / "data.npz"), "--cascade", "light", "--json",
                 "--report", str(files / "r")]) == 0  # fmt: skip
    again = json.loads(capsys.readouterr().out)["cascade"]
    assert again["points"][0]["accuracy"] == light.metrics.this
    assert "light alone" in (files / "r" / "report.html").read_text()
    tried = ["evaluate", str(bundle), "--data", str(files / "data.npz"), "--cascade", str(files / "light.tflite")]
    assert main(tried) == 0 and "cascade light then heavy: 120 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("light", "said"),
    [("heavy", "that is the model itself"), ("none", "no variant 'none'"), ("no.tflite", "no.tflite")],
)
def test_a_cascade_that_is_none_is_one_line(files: Path, capsys, light: str, said: str) -> None:
    names = [f"--variant={name}={files}/{name}.tflite" for name in ("heavy", "light")]
    words = ["bundle", "create", *names, "--contract", str(files / "c.toml"), "--no-golden"]
    assert main([*words, "-o", str(files / "b.bundle")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(files / "b.bundle"), "--data", str(files / "data.npz"), "--cascade", light]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
