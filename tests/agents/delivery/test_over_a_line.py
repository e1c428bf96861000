"""`edgeloop deploy serial://PORT`: a real agent at the other end of a cable with a speed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.versions import VersionFolder
from support.agents import Agent, Agents, frames, make_bundle, run_cli
from support.throttled import Cable

FAST = 100_000  # bytes/s: 1 Mbaud


def edgeloop(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Board:
    """Version 7 is committed and runs; its reports go over the cable."""

    def __init__(self, agents: Agents, folder: Path, *, bytes_per_s: float = FAST, faults: float = 0.0) -> None:
        self.folder, self.state = folder, folder / "state"
        self._agents = agents
        bundle = make_bundle(folder / "7.bundle")
        assert run_cli("update", bundle, "--state", self.state, "--rehearsal", "0.1").returncode == 0
        self.versions: VersionFolder = model_folder(self.state, "digits")
        self.versions.commit()
        np.savez(folder / "x.npz", x=frames(20))
        self.cable = Cable(folder, bytes_per_s=bytes_per_s, faults=faults)
        self.baud = int(bytes_per_s * 10)
        self.agent = self.start()

    @property
    def url(self) -> str:
        return f"serial://{self.cable.host}?baud={self.baud}"

    def start(self) -> Agent:
        agent = self._agents.start(
            "--bundle", self.versions.current, "--source", f"npz:{self.folder / 'x.npz'}", "--loop", "--rate", "50",
            "--trial", "1", "--device", "pi-1", "--report-interval", "0.5",
            "--telemetry", f"serial://{self.cable.device}?baud={self.baud}",
        )  # fmt: skip
        agent.wait_until_said("runs on")
        return agent

    def deploy(self, bundle: Path, *more: str) -> tuple[int, dict[str, Any], str]:
        done = edgeloop("deploy", self.url, bundle, "--json", *more)
        return done.returncode, json.loads(done.stdout), done.stderr

    @property
    def running(self) -> int:
        found = self.versions.standing().running
        assert found is not None
        return found.number


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.fixture
def board(agents: Agents, tmp_path: Path) -> Iterator[Board]:
    made = Board(agents, tmp_path)
    yield made
    made.cable.close()


def test_a_bundle_goes_over_the_line_is_committed_and_taken_back(board: Board, tmp_path: Path) -> None:
    code, data, _said = board.deploy(make_bundle(tmp_path / "8.bundle", version=8))
    assert (code, data["hosts"][0]["state"]) == (0, "committed"), data
    standing = board.versions.standing()
    assert standing.committed is not None and standing.committed.number == 8 and standing.trial is None
    assert list((board.state / "incoming").glob("*.part")) == []
    done = edgeloop("rollback", board.url, "--json")
    assert json.loads(done.stdout)["version"] == 7, done.stderr
    assert board.running == 7
