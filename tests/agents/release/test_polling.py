"""When the running agent polls, and how a transfer keeps its pace: by a clock that the test turns."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.exceptions import SlowRetrievalError

from edgeloop_agent.cli import main
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.update import Version
from edgeloop_agent.delivery.versions import VersionFolder
from edgeloop_agent.release import polling
from edgeloop_agent.release.http_files import Pace, Patience
from edgeloop_agent.release.polling import Polls, details
from edgeloop_agent.release.telling import leave


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Child:
    """A poll that ends when it is told to."""

    command: Sequence[str]
    returncode: int | None = None
    stdout: io.BytesIO = field(default_factory=io.BytesIO)

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.returncode = -9

    def wait(self) -> int:
        return self.returncode or 0

    def end(self, said: dict[str, Any], code: int = 0) -> None:
        self.stdout, self.returncode = io.BytesIO(json.dumps(said).encode()), code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    children: list[Child] = []

    def start(command: Sequence[str], **_: object) -> Child:
        children.append(Child(command))
        return children[-1]

    monkeypatch.setattr(polling.subprocess, "Popen", start)
    return children


def config(tmp_path: Path, bundle: Path | None = None, **more: Any) -> AgentConfig:
    values: dict[str, Any] = {"release": "http://127.0.0.1:9", "release_interval": 1000.0, "device": "pi-1", **more}
    return AgentConfig(bundle or tmp_path / "x.bundle", "synthetic:", state=tmp_path, **values)


def run(polls: Polls, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1
        polls.look()


def test_it_polls_now_and_then_one_at_a_time(tmp_path: Path, started: list[Child]) -> None:
    clock, told = Clock(), []
    polls = Polls(tmp_path / "agent.toml", clock=clock)
    polls.attend([config(tmp_path)], lambda kind, detail: told.append((kind, detail)))
    polls.look()
    assert not started
    run(polls, clock, 130)
    assert len(started) == 1 and started[0].command[-1] == str((tmp_path / "agent.toml").absolute())
    run(polls, clock, 2000)
    assert len(started) == 1  # which is not over yet
    started[0].end({"error": {"message": "no network", "exit_code": 3}}, 3)
    run(polls, clock, 2)
    assert told == [("release", "failed: no network")]
    for _ in range(3):
        run(polls, clock, 1300)
        started[-1].end({"models": []})
    assert 4 <= len(started) <= 6 and len(told) == 1


def test_nothing_is_polled_without_a_repository_or_while_a_version_is_on_trial(
    tmp_path: Path, started: list[Child]
) -> None:
    clock = Clock()
    polls = Polls(None, clock=clock)
    polls.attend([config(tmp_path, release="")], lambda *_: None)
    run(polls, clock, 3000)
    folder = VersionFolder(tmp_path / "ic")
    version = Version(8, "0" * 16)
    folder.take_in(version, [b"x"])
    folder.begin_trial(version)
    polls.attend([config(tmp_path, folder.current)], lambda *_: None)
    run(polls, clock, 3000)
    assert not started
    folder.commit()
    run(polls, clock, 1300)
    assert len(started) == 1


def test_what_a_poll_by_hand_met_is_said_once(tmp_path: Path, started: list[Child]) -> None:
    said = {"error": {"message": "127.0.0.1:9: its metadata expired", "exit_code": 4}}
    (tmp_path / "release").mkdir()
    words = ["pull", "--state", str(tmp_path), "--release", "http://127.0.0.1:9"]
    assert main(words) == 2, "without a trusted root"
    clock, told = Clock(), []
    polls = Polls(None, clock=clock)
    polls.attend([config(tmp_path)], lambda kind, detail: told.append((kind, detail)))
    run(polls, clock, 1)
    assert [kind for kind, _ in told] == ["release"] and "no trusted root" in told[0][1]
    leave(tmp_path, details(said, 4))
    leave(tmp_path, details({"models": []}, 0))
    run(polls, clock, 6)
    assert told[1:] == [("release", "refused: 127.0.0.1:9: its metadata expired")]
    run(polls, clock, 200)
    leave(tmp_path, details(said, 4))  # as the agent's own poll leaves it, too
    started[0].end(said, 4)
    run(polls, clock, 20)
    assert len(told) == 2
    (tmp_path / "release/met.json").write_text("[[")
    run(polls, clock, 10)
    assert len(told) == 2


def test_a_reload_leaves_a_poll_that_is_going_on_and_the_end_does_not(tmp_path: Path, started: list[Child]) -> None:
    clock = Clock()
    polls = Polls(None, clock=clock)
    polls.attend([config(tmp_path)], lambda *_: None)
    run(polls, clock, 130)
    polls.attend([config(tmp_path)], lambda *_: None)
    assert started[0].returncode is None
    run(polls, clock, 13 * 3600)
    assert started[0].returncode == -9  # which hung
    polls.close()
    assert started[-1].returncode == -9


@given(st.floats(100, 1e6), st.lists(st.integers(1, 70_000), min_size=1, max_size=30))
def test_a_rate_is_never_exceeded(rate: float, pieces: list[int]) -> None:
    clock = Clock()
    pace = Pace(rate, Patience(), clock=clock, sleep=clock.sleep)
    began = clock.now
    for piece in pieces:
        pace.took(piece)
    assert sum(pieces) / rate <= (clock.now - began) * (1 + 1e-6) + 1e-6


@given(st.floats(0.1, 14.0), st.integers(1, 5))
def test_a_far_end_that_drips_is_left_within_two_windows(every_s: float, size: int) -> None:
    clock, patience = Clock(), Patience()
    pace = Pace(0, patience, clock=clock, sleep=clock.sleep)
    with pytest.raises(SlowRetrievalError):
        for _ in range(int(2 * patience.window_s / every_s) + 2):
            clock.now += every_s
            pace.took(size)


def test_a_slow_line_is_no_drip() -> None:
    clock = Clock()
    pace = Pace(0, Patience(), clock=clock, sleep=clock.sleep)
    for _ in range(600):
        clock.now += 1
        pace.took(1200)


def test_a_low_rate_of_our_own_is_no_drip() -> None:
    clock = Clock()
    pace = Pace(30, Patience(), clock=clock, sleep=clock.sleep)
    for piece in (1024, 1024, 1024, 5):
        clock.now += 0.1
        pace.took(piece)


def test_a_poll_runs_where_the_sandbox_lets_nobody_change_priorities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refused(_increment: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(polling.os, "nice", refused)
    assert polling.run_poll(["pull", "--json", "--state", str(tmp_path), "--device", "pi"]) != 0
    assert "error" in json.loads(capsys.readouterr().out), "it ran, and says what is missing"
