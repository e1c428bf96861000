"""The real agent as an aarch64 process (qemu-user, Debian arm64 tree), installed as on a board, reporting here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.summary import summarize_device
from support.board import board_agent
from support.debian_root import DebianRoot, debian_root
from support.digits import make_digits_bundle, save_held_out

pytestmark = [pytest.mark.emulated, pytest.mark.slow]


@pytest.fixture(scope="module")
def root() -> DebianRoot:
    return debian_root()


@pytest.fixture(scope="module")
def agent(root: DebianRoot, tmp_path_factory) -> list[str]:
    return board_agent(root, tmp_path_factory.mktemp("board"))


def run_agent(root: DebianRoot, agent: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*agent, *arguments], capture_output=True, text=True, env=root.environment, timeout=240, check=False
    )


def test_a_bundle_made_here_runs_there_with_equal_golden_outputs_and_reports_back(root, agent, tmp_path):
    bundle = make_digits_bundle(tmp_path)
    data = save_held_out(tmp_path)
    public_key = load_or_create_signing_key().public_path
    with start_collector(f"sqlite:///{tmp_path}/telemetry.db") as collector:
        done = run_agent(
            root, agent, "run", "--bundle", str(bundle), "--source", f"npz:{data}", "--count", "200",
            "--sink", f"jsonl:{tmp_path}/out.jsonl", "--telemetry", collector.url, "--device", "emulated-board",
            "--trust", str(public_key), "--state", str(tmp_path / "state"), "--load-timeout", "120",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        summary = summarize_device(collector.store, "emulated-board")
    assert summary is not None
    assert summary.counters["inferences"] == 200
    assert not [event for event in summary.events if event.startswith(("fallback", "golden"))], summary.events
    # The same int8 model on both architectures: the results are those of this host, frame by frame.
    there = [json.loads(line)["top"][0]["class_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    labels = np.load(data)["y"][:200]
    assert (np.array(there) == labels).mean() > 0.95
    assert there == results_here(bundle, data, tmp_path)
    assert summary.last.delegate_ran == "xnnpack"
    assert summary.last.delegated_ops >= summary.last.total_ops - 1  # XNNPACK leaves the int8 SOFTMAX to the CPU


def results_here(bundle: Path, data: Path, tmp_path: Path) -> list[int]:
    subprocess.run(
        [
            sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(bundle), "--source", f"npz:{data}",
            "--count", "200", "--sink", f"jsonl:{tmp_path}/here.jsonl", "--state", str(tmp_path / "state-here"),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return [json.loads(line)["top"][0]["class_id"] for line in (tmp_path / "here.jsonl").read_text().splitlines()]


def test_doctor_runs_there(root, agent):
    done = run_agent(root, agent, "doctor", "--json")
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["findings"]
