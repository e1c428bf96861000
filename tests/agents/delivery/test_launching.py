"""Which agent and config the installed agent chooses, whatever it finds."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeloop_agent.delivery.launched import Launched
from edgeloop_agent.delivery.launching import VARIABLE, Choice, choose
from edgeloop_agent.delivery.package_folders import (
    LAUNCHER,
    AgentFolder,
    agent_folder,
    base_of,
    config_folder,
    forget_other_bases,
    read_base,
    write_base,
)
from edgeloop_agent.delivery.update import TRIAL_STARTS, Version
from edgeloop_agent.service.statedir import LOCK

ONE, TWO = (Version(n, f"{n:016x}") for n in (1, 2))
COMMAND = ("/usr/bin/python3", "-I", "/opt/edgeloop/agent/0.1.0+abc/bin/edgeloop-agent")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    path = tmp_path / "agent.toml"
    path.write_text(f'state = "{tmp_path}/state"\ntrial = 600\n')
    return path


def take_in(folder: AgentFolder, version: Version) -> None:
    def fill(fresh: Path) -> None:
        (fresh / LAUNCHER).parent.mkdir(parents=True)
        (fresh / LAUNCHER).write_text("")

    folder.plant(version, fill)
    folder.take_in(version, [b""])
    folder.begin_trial(version)


def agents(config: Path) -> AgentFolder:
    return agent_folder(config.parent / "state", base_of("0.1.0+abc", COMMAND, config))


def chosen(config: Path) -> Choice:
    said: list[str] = []
    return choose(config, COMMAND, said.append)


def test_the_installed_ones_run_where_nothing_came_in(config: Path) -> None:
    choice = chosen(config)
    assert (choice.config, choice.launcher, choice.alarm_s, choice.notes) == (config, None, 0, ())
    base = read_base(config.parent / "state")
    assert base is not None and base.agent == "0.1.0+abc"


@pytest.mark.parametrize("text", ["[[", "state = 3\n", "", 'state = "/nowhere/at/all"\n'])
def test_a_config_that_is_wrong_is_for_the_installed_agent_to_say(config: Path, text: str) -> None:
    config.write_text(text)
    assert chosen(config) == Choice(config)
    config.unlink()
    assert chosen(config) == Choice(config)


def test_three_starts_of_a_trial_each_with_an_alarm(config: Path) -> None:
    folder = agents(config)
    take_in(folder, ONE)
    for _ in range(TRIAL_STARTS):
        choice = chosen(config)
        assert (choice.launcher, choice.alarm_s) == (folder.launcher_of(ONE), 1800)
        assert choice.notes == (("update", "agent version 1 is on trial"),)
    choice = chosen(config)
    assert choice.launcher is None and choice.alarm_s == 0
    assert choice.notes[0][1].startswith("agent version 1 to the installed one: the agent was started 3 times")
    assert chosen(config).notes == ()


def test_what_was_committed_runs_without_an_alarm(config: Path) -> None:
    folder = agents(config)
    take_in(folder, ONE)
    folder.commit()
    assert (chosen(config).launcher, chosen(config).alarm_s) == (folder.launcher_of(ONE), 0)


def test_a_start_beside_a_running_agent_counts_for_nothing(config: Path) -> None:
    take_in(agents(config), ONE)
    held = os.open(config.parent / "state" / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert chosen(config) == Choice(config)
    finally:
        os.close(held)
    trial = agents(config).standing().trial
    assert trial is not None and trial.starts == 0


def test_a_changed_base_puts_what_came_on_top_aside(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    folder = config_folder(state, base_of("0.1.0+abc", COMMAND, config))
    folder.take_in(ONE, [b"x = 1"])
    folder.begin_trial(ONE)
    folder.commit()
    assert chosen(config).config == folder.path_of(ONE)
    before = config.read_text()
    config.write_text(before + "# changed by root\n")
    assert chosen(config).config == config
    config.write_text(before)
    assert chosen(config).config == folder.path_of(ONE)


def test_of_former_bases_the_last_is_kept(config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for age, name in enumerate(("one", "two", "three")):
        path = state / "packages/agent" / name
        path.mkdir(parents=True)
        os.utime(path, (age, age))
    base = base_of("four", COMMAND, config)
    write_base(state, base)
    forget_other_bases(state, base)
    assert [path.name for path in (state / "packages/agent").iterdir()] == ["three"]


def test_an_alarm_survives_exec() -> None:
    code = f"import os, signal, sys; signal.alarm(1); os.execv(sys.executable, [sys.executable, '-c', {SLEEP!r}])"
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert done.returncode == -signal.SIGALRM


SLEEP = "import time; time.sleep(25)"


@pytest.mark.parametrize("said", ["", "{", "[]", '{"folders": 3}', '{"folders": {}, "ran": {}, "notes": [1]}'])
def test_an_agent_that_was_not_launched_watches_nothing(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert Launched.from_environment() is None


def test_what_cannot_go_on_is_given_up_by_itself(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = agents(config)
    take_in(folder, ONE)
    folder.commit()
    take_in(folder, TWO)
    said = {
        "command": COMMAND, "folders": {"agent": str(folder.folder)}, "ran": {"agent": [2, TWO.digest]}, "notes": [],
    }  # fmt: skip
    monkeypatch.setenv(VARIABLE, json.dumps(said))
    launched = Launched.from_environment()
    assert launched is not None
    assert launched.give_up("no such key") == ["agent version 2 to version 1: no such key"]
    assert launched.give_up("again") == [] and folder.standing().running == ONE
