"""Every sample runs as its README says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def test_every_sample_has_a_readme():
    assert [p.name for p in SAMPLES.iterdir() if p.is_dir() and not (p / "README.md").is_file()] == []


def test_digits_from_the_python_api_to_results_of_the_agent(tmp_path):
    convert = [sys.executable, str(SAMPLES / "digits/convert.py"), "-o", str(tmp_path)]
    subprocess.run(convert, check=True, capture_output=True)
    assert (tmp_path / "report.html").is_file()
    agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", str(SAMPLES / "digits/device.toml")]
    subprocess.run(agent, check=True, capture_output=True, cwd=tmp_path)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(results) == 597
    assert results[0]["top"][0]["label"] in set("0123456789")


@pytest.mark.torch
@pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="PyTorch is missing: scripts/setup --torch"
)
def test_a_pytorch_model_to_results_of_the_agent(tmp_path):
    sample = SAMPLES / "pytorch_model"
    convert = [sys.executable, str(sample / "convert.py"), "-o", str(tmp_path), "--epochs", "3"]
    done = subprocess.run(convert, check=True, capture_output=True, text=True)
    assert "int8" in done.stdout
    agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", str(sample / "device.toml")]
    subprocess.run(agent, check=True, capture_output=True, cwd=tmp_path)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(results) == 597
    assert results[0]["top"][0]["label"] in set("0123456789")
