"""From a float model to a bundle of widths and an exit head, and every way to run it in the agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.cli.main import main
from edgeloop_converters.demo.digits import load_split
from support.agents import Agents

pytestmark = pytest.mark.slow


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def test_every_variant_of_a_dynamic_bundle_runs_in_the_agent_and_is_named_in_its_report(
    agents: Agents, digits_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:400], y=split.train_labels[:400])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:200], y=split.held_out_labels[:200])
    np.savez(tmp_path / "x.npz", x=split.held_out_images[200:260])
    bundle, report = tmp_path / "d.bundle", tmp_path / "report"
    code = main([
        "convert", str(digits_tflite), "--data", str(tmp_path / "train.npz"), "--eval", str(tmp_path / "test.npz"),
        "--target", "generic-x86-64", "--effort", "fast", "--exits", "0.5", "--widths", "0.6", "--threads", "1",
        "-o", str(bundle), "--report", str(report), "--json",
    ])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and [v["name"] for v in told["variants"]] == ["int8", "int8-w60", "int8-exit1"]
    page = (report / "report.html").read_text()
    assert "Accuracy against mean cost" in page and "exit1 from 0.9" in page
    (chosen,) = told["dynamic"]["exits"]
    flag = "exit1" if chosen["threshold"] is not None else "exit1:0.9"

    def run(*words: str) -> dict[str, int]:
        code, summary, said = agents.run("--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", *words)
        assert code == 0 and "golden self-test passed" in said, said
        return dict(summary["variants"]) or {summary["variant"]: summary["inferences"]}

    stopped = run("--exit-head", flag)
    assert sum(stopped.values()) == 60 and stopped.get("int8@exit1", 0) > 0 and set(stopped) <= {"int8@exit1", "int8"}
    for name in ("int8-w60", "int8-exit1"):
        assert run("--variant", name) == {name: 60}
    assert main(["evaluate", str(bundle), "--data", str(tmp_path / "test.npz"), "--exit-head", "exit1", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["cascade"]["is_exit"] and again["variants"][0]["metrics"] == told["variants"][0]["metrics"]


@pytest.mark.tensorflow
def test_six_passes_make_a_bundle_whose_variants_run(agents: Agents, digits_tflite: Path, tmp_path: Path) -> None:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:300], y=split.train_labels[:300])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:100], y=split.held_out_labels[:100])
    np.savez(tmp_path / "x.npz", x=split.held_out_images[200:240])
    recipe, bundle = tmp_path / "six.toml", tmp_path / "six.bundle"
    recipe.write_text(f"""
source = "{digits_tflite}"
data = "{tmp_path}/train.npz"
eval = "{tmp_path}/test.npz"
target = "generic-x86-64"
effort = "fast"
passes = [
    {{ name = "optimize" }},
    {{ name = "prune", goal = 0.8, samples = 64 }},
    {{ name = "distill", epochs = 1 }},
    {{ name = "exits", at = 0.6 }},
    {{ name = "qat", epochs = 1, labels = false }},
    {{ name = "quantize", scheme = "int8" }},
]
""")
    folder = tmp_path / "report"
    assert main(["convert", "--recipe", str(recipe), "-o", str(bundle), "--report", str(folder), "--threads", "1"]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert [v["name"] for v in report["variants"]] == ["int8", "int8-exit1"]
    assert report["variants"][0]["metrics"]["this"] > 0.9, "heads are trained beside the answer, not in place of it"
    for words, names in ((("--exit-head", "exit1:0.5"), {"int8@exit1", "int8"}), (("--variant", "int8-exit1"), set())):
        code, summary, said = agents.run("--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", *words)
        assert code == 0 and "golden self-test passed" in said and summary["inferences"] == 40, said
        assert set(summary["variants"]) <= names and summary["variant"] in ("int8", "int8-exit1")
