"""The layout without OpenCV on an emulated board: its size, a tensor source, and what pictures are answered with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.contract import Contract, InputSpec, OutputSpec
from support.agents import LABELS, frames, make_bundle
from support.board import board_agent
from support.debian_root import DebianRoot, debian_root

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

MOST_BYTES, MOST_SLIM_BYTES = 200e6, 110e6
TENSOR = Contract((InputSpec(kind="tensor", shape=(8, 8, 1), std=(255.0,)),), OutputSpec("classification", LABELS))


@pytest.fixture(scope="module")
def root() -> DebianRoot:
    return debian_root()


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def run(root: DebianRoot, agent: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    trust = ("--trust", str(load_or_create_signing_key().public_path))
    return subprocess.run(
        [*agent, "run", *trust, *map(str, arguments), "--json"],
        capture_output=True, text=True, env=root.environment, timeout=240, check=False,
    )  # fmt: skip


def test_the_whole_install_keeps_its_size(root: DebianRoot, tmp_path: Path) -> None:
    board_agent(root, tmp_path / "board")
    assert size_bytes(tmp_path / "board") <= MOST_BYTES


def test_without_opencv_a_tensor_source_runs_and_pictures_are_answered_in_one_line(
    root: DebianRoot, tmp_path: Path
) -> None:
    agent = board_agent(root, tmp_path / "board", slim=True)
    assert size_bytes(tmp_path / "board") <= MOST_SLIM_BYTES
    assert not list((tmp_path / "board").rglob("cv2"))
    np.savez(tmp_path / "x.npz", x=frames(20)[..., None].astype(np.float32))
    bundle = make_bundle(tmp_path / "tensor.bundle", contract=TENSOR)
    done = run(root, agent, "--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", "--state", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["inferences"], summary["delegate_ran"], summary["restarts"]) == (20, "xnnpack", 0)
    pictures = make_bundle(tmp_path / "pictures.bundle")
    refused = run(
        root, agent, "--bundle", pictures, "--source", "synthetic:", "--count", "3", "--state", tmp_path / "p"
    )
    assert refused.returncode == 2
    assert "cv2 is not installed" in refused.stderr


def test_the_unit_and_the_bench_come_along(root: DebianRoot, tmp_path: Path) -> None:
    agent = board_agent(root, tmp_path / "board", slim=True)

    def verb(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*agent, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=root.environment, timeout=120, check=False)

    unit = verb("service")
    assert f"-I {agent[-1]} run --config /etc/edgeloop/agent.toml" in unit.stdout, unit.stderr
    bundle = make_bundle(tmp_path / "tensor.bundle", contract=TENSOR)
    done = verb("bench", bundle, "-n", "5", "--allow-unsigned", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delegate"] == "xnnpack"
