"""A slim install has no OpenCV: what works without it, and what is answered in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.devices.agent_site import device_requirements
from support.agents import LABELS, Agents, frames, make_bundle

TENSOR = Contract((InputSpec(kind="tensor", shape=(8, 8, 1), std=(255.0,)),), OutputSpec("classification", LABELS))
HIDING = "raise ModuleNotFoundError('No module named cv2', name='cv2')\n"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def no_opencv(tmp_path: Path) -> dict[str, str]:
    """An environment in which `import cv2` fails as where it is not installed."""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding/cv2.py").write_text(HIDING)
    path = os.pathsep.join(filter(None, [str(tmp_path / "hiding"), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path}


@pytest.mark.parametrize("source", ["npz", "synthetic"])
def test_a_tensor_source_needs_none(agents: Agents, no_opencv: dict[str, str], tmp_path: Path, source: str) -> None:
    np.savez(tmp_path / "x.npz", x=frames(20)[..., None].astype(np.float32))
    bundle = make_bundle(tmp_path / "tensor.bundle", contract=TENSOR)
    url = f"npz:{tmp_path}/x.npz" if source == "npz" else "synthetic:"
    code, summary, said = agents.run("--bundle", bundle, "--source", url, "--count", "20", env=no_opencv)
    assert (code, summary["inferences"], summary["restarts"]) == (0, 20, 0), said


def test_a_governor_without_a_gate_needs_none(agents: Agents, no_opencv: dict[str, str], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tensor.bundle", contract=TENSOR)
    limits = ("--latency-budget", "1000", "--max-stride", "2")
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--count", "20", *limits, env=no_opencv
    )
    assert (code, summary["restarts"], "cv2" in said) == (0, 0, False), said


@pytest.mark.parametrize("more", [("--source", "synthetic:"), ("--source", "folder:.")])
def test_pictures_are_answered_with_what_is_missing(
    agents: Agents, no_opencv: dict[str, str], tmp_path: Path, more: tuple[str, str]
) -> None:
    bundle = make_bundle(tmp_path / "pictures.bundle")
    code, _, said = agents.run("--bundle", bundle, *more, "--count", "3", env=no_opencv)
    assert (code, "cv2 is not installed" in said, "quarantine" in said) == (2, True, False), said
    assert "edgeloop[agent]" in said


def test_a_slim_install_asks_for_everything_but_opencv() -> None:
    whole, slim = device_requirements(), device_requirements(slim=True)
    assert [r for r in whole if r not in slim] == [r for r in whole if r.startswith("opencv")] != []
