"""Every sample runs as its README says."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(1500)  # conversions one after another: minutes on a loaded machine

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.mark.parametrize("name", ["README.md", "convert.py", "device.toml"])
def test_every_sample_has_the_same_files(name):
    assert [p.name for p in SAMPLES.iterdir() if p.is_dir() and not (p / name).is_file()] == []


def test_no_two_samples_make_a_bundle_of_the_same_name():
    configs = [p.read_text() for p in SAMPLES.glob("*/device.toml")]
    names = [re.search(r'^bundle = "(.+)"', text, re.MULTILINE)[1] for text in configs]
    assert len(set(names)) == len(names)


def test_the_files_that_readmes_name_exist():
    for readme in SAMPLES.glob("*/README.md"):
        named = re.findall(r"^\| `([\w.]+)` \|", readme.read_text(), re.MULTILINE)
        assert named, readme
        assert [n for n in named if not (readme.parent / n).is_file()] == [], readme


@pytest.mark.slow
def test_digits_from_the_python_api_to_results_of_the_agent(tmp_path):
    convert = [sys.executable, str(SAMPLES / "digits/convert.py"), "-o", str(tmp_path)]
    subprocess.run(convert, check=True, capture_output=True)
    assert (tmp_path / "report.html").is_file()
    agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", str(SAMPLES / "digits/device.toml")]
    subprocess.run(agent, check=True, capture_output=True, cwd=tmp_path)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(results) == 597
    assert results[0]["top"][0]["label"] in set("0123456789")


def run(script: str, folder: Path, *more: str) -> str:
    """What a sample's script printed."""
    command = [sys.executable, str(SAMPLES / script), "-o", str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def run_agent(sample: str, folder: Path, *more: str) -> list[dict[str, Any]]:
    """Results of the agent with the sample's config, started in the output folder as the README says."""
    config = str(SAMPLES / sample / "device.toml")
    agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", config, *more]
    done = subprocess.run(agent, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def accuracy(printed: str, which: str) -> float:
    """Of "float 98.33%, int8 98.17%, ..."."""
    found = re.search(rf"{which} ([\d.]+)%", printed)
    assert found is not None, printed
    return float(found.group(1)) / 100


@pytest.mark.parametrize(
    ("script", "package", "command"),
    [
        ("digits/train.py", "keras", "scripts/setup"),
        ("image_classification/train.py", "keras", "scripts/setup"),
        ("keyword_spotting/train.py", "keras", "scripts/setup"),
        ("smart_camera/train.py", "keras", "scripts/setup"),
        ("serial_sensor/train.py", "keras", "scripts/setup"),
        ("pytorch_model/convert.py", "torch", "scripts/setup --torch"),
        ("onnx_model/convert.py", "onnx2torch", "scripts/setup --torch"),
        ("compress_image_classifier/convert.py", "tensorflow", "scripts/setup"),
    ],
)
def test_a_sample_that_lacks_a_package_names_the_command(tmp_path, script, package, command):
    without = f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = sys.argv[1:]\n"
    start = f"sys.path.insert(0, {str((SAMPLES / script).parent)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [sys.executable, "-c", without + start, str(SAMPLES / script), "-o", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith(f"-> {command}\n") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_keras_image_classifier_to_results_of_the_agent(tmp_path):
    run("image_classification/train.py", tmp_path, "--epochs", "3")
    printed = run("image_classification/convert.py", tmp_path)
    assert accuracy(printed, "int8") >= accuracy(printed, "float") - 0.01
    assert accuracy(printed, "float") > 0.6
    results = run_agent("image_classification", tmp_path)
    assert len(results) == 500
    right = sum(r["top"][0]["label"] == r["source"].split("/")[0] for r in results)
    assert right / 500 == pytest.approx(accuracy(printed, "int8"), abs=0.005)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_keyword_spotter_from_a_savedmodel_to_results_of_the_agent(tmp_path):
    run("keyword_spotting/train.py", tmp_path, "--epochs", "3")
    printed = run("keyword_spotting/convert.py", tmp_path)
    assert accuracy(printed, "float") > 0.8
    results = run_agent("keyword_spotting", tmp_path)
    assert len(results) == 600
    words = (tmp_path / "labels.txt").read_text().split()
    right = sum(r["top"][0]["label"] == words[i % len(words)] for i, r in enumerate(results))
    assert right / 600 == pytest.approx(accuracy(printed, "int8"), abs=0.005)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.timeout(1200)
def test_a_classifier_is_compressed_and_its_variants_run_in_the_agent(tmp_path):
    printed = run("compress_image_classifier/convert.py", tmp_path)
    table = dict(re.findall(r"^(\S+(?: int8\S*)?) +([\d.]+) +[\d,]+ +[\d.]+%", printed, re.MULTILINE))
    assert {"float", "int8", "recipe", "--optimize int8-lite"} <= table.keys(), printed
    assert float(table["--optimize int8-lite"]) < float(table["int8"]) < float(table["float"])
    assert float(table["recipe"]) < float(table["int8"])
    assert (tmp_path / "pareto.svg").read_text().startswith("<svg ")
    config = str(SAMPLES / "compress_image_classifier/device.toml")
    for variant, more in (("int8-lite", []), ("int8", ["--variant", "int8"])):
        agent = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", config, *more]
        done = subprocess.run(agent, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"digits-small 1 ({variant}) runs on" in done.stderr + done.stdout
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2 * 597


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_smart_camera_rests_while_nobody_is_there(tmp_path):
    run("smart_camera/train.py", tmp_path, "--epochs", "6")
    printed = run("smart_camera/convert.py", tmp_path)
    assert "cascade light then heavy: 600 samples" in printed
    results = run_agent("smart_camera", tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    names = ("nobody", "person", "dog", "car")
    right = sum(r["top"][0]["label"] == names[label] for r, label in zip(results, truth, strict=True))
    assert len(results) == 900 and right / 900 > 0.85
    assert sum(r.get("reused", False) for r in results) > 350
    assert {r["variant"] for r in results} <= {"light", "heavy"}


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_motor_is_heard_over_a_serial_line(tmp_path):
    run("serial_sensor/train.py", tmp_path, "--epochs", "6")
    assert accuracy(run("serial_sensor/convert.py", tmp_path), "int8") > 0.95
    port = tmp_path / "port"
    command = [sys.executable, str(SAMPLES / "serial_sensor/sensor.py"), "--port", str(port), "--speed", "5"]
    sensor = subprocess.Popen([*command, "--seconds", "60"], stdout=subprocess.PIPE, text=True)
    try:
        assert sensor.stdout is not None and "1000 lines a second" in sensor.stdout.readline()
        source = f"serial://{port}?window=64&hop=32"
        results = run_agent("serial_sensor", tmp_path, "--source", source, "--count", "200")
    finally:
        sensor.kill()
        sensor.wait()
    heard = [r["top"][0]["label"] for r in results]
    assert len(heard) >= 150 and {"sound", "unbalanced", "bearing"} == set(heard)
    assert sum(a != b for a, b in itertools.pairwise(heard)) <= 12  # a state lasts


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tuf") is None, reason="tuf is missing: scripts/setup")
def test_a_bad_release_is_rolled_back_halted_and_never_reaches_the_second_device(tmp_path):
    printed = run("fleet_update/fleet.py", tmp_path)
    assert "fleet version 3 is halted in stable: 1 of 1 devices went back" in printed
    canary, other = printed.split("$ edgeloop-agent versions")[1:]
    assert "version 2 runs" in canary and "failed: version 3" in canary
    assert "version 2 runs" in other and "3" not in other.partition("\n")[2].partition("done in")[0]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="ONNX is missing: scripts/setup --torch")
def test_an_onnx_file_to_results_of_the_agent(tmp_path):
    printed = run("onnx_model/convert.py", tmp_path, "--epochs", "3")
    assert accuracy(printed, "float") > 0.9
    assert (tmp_path / "digits.onnx").is_file()
    results = run_agent("onnx_model", tmp_path)
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
