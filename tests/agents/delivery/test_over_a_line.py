"""`edgeloop deploy serial://PORT`: a real agent at the other end of a cable with a speed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.bundle.packer import sign_bundle
from edgeloop.telemetry.collector import start_collector
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.versions import VersionFolder
from support.agents import Agent, Agents, frames, golden_of, make_bundle, run_cli
from support.throttled import Cable

FAST = 100_000  # bytes/s: 1 Mbaud


def edgeloop(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeloop.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Board:
    """Version 7 is committed and runs; its reports go over the cable."""

    def __init__(
        self, agents: Agents, folder: Path, *, bytes_per_s: float = FAST, faults: float = 0.0,
        more: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.folder, self.state = folder, folder / "state"
        self._agents = agents
        self._more = more
        bundle = make_bundle(folder / "7.bundle")
        assert run_cli("update", bundle, "--state", self.state, "--rehearsal", "0.1").returncode == 0
        self.versions: VersionFolder = model_folder(self.state, "digits")
        self.versions.commit()
        np.savez(folder / "x.npz", x=frames(20))
        self.cable = Cable(folder, bytes_per_s=bytes_per_s, faults=faults)
        self.baud = int(bytes_per_s * 10)
        self.agent = self.start()
        self._hosts: list[subprocess.Popen[str]] = []

    @property
    def url(self) -> str:
        return f"serial://{self.cable.host}?baud={self.baud}"

    def start(self) -> Agent:
        agent = self._agents.start(
            "--bundle", self.versions.current, "--source", f"npz:{self.folder / 'x.npz'}", "--loop", "--rate", "50",
            "--trial", "1", "--device", "pi-1", "--report-interval", "0.5",
            "--telemetry", f"serial://{self.cable.device}?baud={self.baud}", *self._more,
        )  # fmt: skip
        agent.wait_until_said("runs on")
        return agent

    def deploy(self, bundle: Path, *more: str) -> tuple[int, dict[str, Any], str]:
        done = edgeloop("deploy", self.url, bundle, "--json", *more)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    def begin_deploy(self, bundle: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edgeloop.cli", "deploy", self.url, str(bundle), "--json"]
        self._hosts.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return self._hosts[-1]

    def close(self) -> None:
        self.cable.close()
        for host in self._hosts:
            if host.poll() is None:
                host.kill()
                host.communicate()

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


Boards = Callable[..., Board]


@pytest.fixture
def boards(agents: Agents, tmp_path: Path) -> Iterator[Boards]:
    """Makes one, with these options."""
    made: list[Board] = []

    def make(**options: Any) -> Board:
        made.append(Board(agents, tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def board(boards: Boards) -> Board:
    return boards()


@pytest.mark.slow
def test_a_bundle_goes_over_the_line_is_committed_and_taken_back(board: Board, tmp_path: Path) -> None:
    code, data, _said = board.deploy(make_bundle(tmp_path / "8.bundle", version=8))
    assert code == 0, data
    assert data["hosts"][0]["state"] == "committed"
    standing = board.versions.standing()
    assert standing.committed is not None and standing.committed.number == 8 and standing.trial is None
    assert list((board.state / "incoming").glob("*.part")) == []
    done = edgeloop("rollback", board.url, "--json")
    assert json.loads(done.stdout)["version"] == 7, done.stderr
    assert board.running == 7


@pytest.mark.slow
def test_a_collector_that_holds_the_line_passes_it_on_and_takes_the_reports(board: Board, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    port = f"{board.cable.host}?baud={board.baud}"
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}", serial_ports=[port]) as collector:
        code, data, _said = board.deploy(bundle)
        assert code == 3 and "--collector" in data["error"]["hint"], data
        board.agent.wait_until(lambda: collector.store.latest(), "reported")
        done = edgeloop("deploy", "pi-1", bundle, "--collector", collector.url, "--json")
        assert done.returncode == 0, (done.stdout, done.stderr, board.agent.said)
        board.agent.wait_until(lambda: collector.store.latest()[0].report.version == 8, "reported version 8")
        kinds = {event.kind for stored in collector.store.reports() for event in stored.report.events}
        assert {"update", "committed"} <= kinds
        done = edgeloop("rollback", "pi-1", "--collector", collector.url, "--json")
        assert json.loads(done.stdout)["version"] == 7, done.stderr


def chunks_there(board: Board) -> int:
    """Of a file that arrives: chunks with a checksum."""
    files = list((board.state / "incoming").glob("*.chunks"))
    if not files:
        return 0
    sums = files[0].read_bytes()
    return sum(sums[n : n + 4] != b"\0\0\0\0" for n in range(0, len(sums), 4))


def padded(path: Path, version: int, size: int = 60_000) -> Path:
    """A bundle of that size at least: golden samples of noise do not pack."""
    count = size // 64
    return make_bundle(path, version=version, golden=golden_of(frames(count, seed=version)))


@pytest.mark.slow
def test_what_the_device_refuses_is_one_line_and_nothing_changes(board: Board, tmp_path: Path) -> None:
    def refused(bundle: Path, *more: str) -> tuple[int, str]:
        code, data, _said = board.deploy(bundle, *more)
        assert board.running == 7
        return code, data["error"]["message"]

    six = make_bundle(tmp_path / "6.bundle", version=6)
    code, why = refused(six)
    assert code == 1 and "version 6 is older than 7" in why, why
    assert not (board.state / "incoming").exists() or not list((board.state / "incoming").glob("*.part"))
    assert "all files are whole" not in board.agent.said, "it was not sent"
    code, data, _said = board.deploy(tmp_path / "7.bundle")
    assert code == 0 and data["hosts"][0]["state"] == "committed", data
    code, why = refused(make_bundle(tmp_path / "slow.bundle", version=9), "--max-p95", "0.00001")
    assert code == 1 and "p95" in why
    code, why = refused(make_bundle(tmp_path / "other.bundle", name="other"))
    assert code == 2 and "takes no versions of 'other'" in why
    code, why = refused(make_bundle(tmp_path / "unsigned.bundle", version=9, signed=False))
    assert code == 4
    assert list((board.state / "incoming").glob("*.part")) == []
    said = [e["detail"] for e in board.agent.stop()["events"] if e["kind"] == "update_refused"]
    assert len(said) == 1, said
    code, data, _said = board.deploy(tmp_path / "slow.bundle", "--wait", "1")
    assert code == 3 and "no answer" in data["error"]["message"]


@pytest.mark.slow
def test_a_key_that_the_device_does_not_trust(boards: Boards, tmp_path: Path) -> None:
    board = boards(more=("--trust", str(load_or_create_signing_key().public_path)))
    stranger = load_or_create_signing_key(tmp_path / "stranger")
    assert edgeloop("keys", "trust", stranger.public_path).returncode == 0
    bundle = make_bundle(tmp_path / "8.bundle", version=8, signed=False)
    sign_bundle(bundle, stranger)
    code, data, _said = board.deploy(bundle)
    assert (code, board.running) == (4, 7), data


@pytest.mark.slow
def test_a_noisy_line_only_takes_longer(boards: Boards, tmp_path: Path) -> None:
    board = boards(faults=1e-4)
    code, data, said = board.deploy(padded(tmp_path / "8.bundle", 8))
    assert (code, board.running) == (0, 8), (data, said)


@pytest.mark.slow
def test_unplugged_killed_and_started_again_it_goes_on_where_it_was(boards: Boards, tmp_path: Path) -> None:
    board = boards(bytes_per_s=11_520)
    bundle = padded(tmp_path / "8.bundle", 8)
    host = board.begin_deploy(bundle)
    board.agent.wait_until(lambda: chunks_there(board) > 8, "something arrived")
    board.cable.unplug()
    before = chunks_there(board)
    time.sleep(1.0)
    board.cable.plug()
    board.agent.wait_until(lambda: chunks_there(board) > before + 8, "it went on after the cable was pulled")
    board.agent.process.kill()
    board.agent.process.wait()
    before = chunks_there(board)
    board.agent = board.start()
    assert chunks_there(board) >= before
    board.agent.wait_until(lambda: chunks_there(board) > before + 8, "it went on after the device was killed")
    host.kill()
    host.communicate()
    before = chunks_there(board)
    second = board.begin_deploy(bundle)
    board.agent.wait_until(lambda: chunks_there(board) > before, "it went on after the host was killed")
    code, data, _said = board.deploy(make_bundle(tmp_path / "9.bundle", version=9))
    # By the port's lock; or, while the first host opens the line anew, by the device itself.
    refusals = ("used by another program", "another bundle is being sent to this device")
    assert code == 3 and any(refusal in data["error"]["message"] for refusal in refusals)
    out, said = second.communicate(timeout=120)
    assert second.returncode == 0, (out, said)
    assert board.running == 8
