"""`edgeloop demo`: the whole loop, with an agent process on a pty pair and a real collector."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from edgeloop.cli.main import main


def test_the_loop_ends_with_latency_reported_by_the_device(tmp_path, capsys):
    assert main(["demo", "--json", "-o", str(tmp_path / "demo")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["float_accuracy"] > 0.97
    assert found["int8_accuracy"] >= found["float_accuracy"] - 0.01
    assert found["device_accuracy"] == pytest.approx(found["int8_accuracy"])
    assert found["agreement"] > 0.98
    assert found["bytes"] < found["float_bytes"] / 2
    assert found["reports"] >= 2
    assert found["inferences"] == 2000
    assert found["delegate"] == "xnnpack"
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    page = Path(found["report_html"]).read_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") >= 3
    report = json.loads(Path(found["report_html"]).with_name("report.json").read_text())
    assert report["demo"]["inferences"] == 2000


@pytest.mark.slow
def test_it_ends_with_what_to_type_next(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    assert "edgeloop run ssh://" in said
    assert "invoke is the model alone" in said
    assert "1 thread" in said
    assert "the live page    edgeloop demo --serve\n" in said


@pytest.mark.slow
def test_serve_keeps_the_page_open_until_it_is_told_to_stop(tmp_path):
    command = [sys.executable, "-m", "edgeloop.cli", "demo", "--serve", "-o", str(tmp_path / "demo")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = ""
    assert process.stderr is not None
    for line in process.stderr:
        if "the collector's page:" in line:
            url = line.split("page:")[1].split()[0]
            break
    with urllib.request.urlopen(f"{url}/v1/devices", timeout=60) as answer:
        assert "demo-device" in answer.read().decode()
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"the live page    {url} (open until Ctrl-C)" in out
    assert "demo --serve" not in out


def test_a_folder_that_cannot_be_written_is_said(capsys):
    assert main(["demo", "-o", "/proc/nowhere"]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.tensorflow
@pytest.mark.slow
def test_train_starts_from_a_keras_model_trained_here(tmp_path, capsys):
    assert main(["demo", "--train", "--json", "-o", str(tmp_path / "demo")]) == 0
    assert json.loads(capsys.readouterr().out)["int8_accuracy"] > 0.96
