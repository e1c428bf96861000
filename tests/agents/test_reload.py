"""SIGHUP: a service reads its config again, anything else ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from edgeloop_agent.service.status import SOCKET, ask
from support.agents import PATIENCE_S, Agent, Agents, make_bundle


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    bundle = make_bundle(tmp_path / "digits.bundle")
    file = tmp_path / "agent.toml"
    file.write_text(f'bundle = "{bundle}"\nsource = "synthetic:"\nrate = 50\nthreads = 1\nstate = "{tmp_path}/state"\n')
    return file


def start(agents: Agents, *arguments: str | Path) -> Agent:
    """As a service runs: in a session of its own, whatever terminal the tests have."""
    stderr = agents.folder / "agent.err"
    with stderr.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeloop_agent.cli", "run", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True,
        )  # fmt: skip
    agent = Agent(process, stderr)
    agents.running.append(agent)
    agent.wait_until_said("runs on xnnpack")
    return agent


def test_a_service_takes_its_new_config_without_ending(agents: Agents, config: Path, tmp_path: Path) -> None:
    agent = start(agents, "--config", config)
    worker = agent.worker_pid
    config.write_text(config.read_text().replace("threads = 1", "threads = 2"))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_until_said("runs on xnnpack", times=2)
    state = ask(tmp_path / "state")
    assert (state["pid"], state["reloads"], state["models"][0]["threads"]) == (agent.process.pid, 1, 2)
    assert agent.worker_pid != worker
    assert agent.stop()["threads"] == 2


def test_who_asks_while_it_reloads_is_answered_with_models(agents: Agents, config: Path, tmp_path: Path) -> None:
    agent = start(agents, "--config", config)
    agent.process.send_signal(signal.SIGHUP)
    until_s = time.monotonic() + PATIENCE_S
    while agent.said.count("runs on xnnpack") < 2 and time.monotonic() < until_s:
        assert ask(tmp_path / "state")["models"]
    assert ask(tmp_path / "state")["reloads"] == 1
    agent.stop()
    assert not (tmp_path / "state" / SOCKET).exists()


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False], ids=["collector", "no collector"])
def test_a_reload_takes_the_spool_over(agents: Agents, config: Path, tmp_path: Path, there: bool) -> None:
    with start_collector(f"sqlite:///{tmp_path}/t.db") as collector:
        url = collector.url if there else "http://127.0.0.1:9"
        config.write_text(f'{config.read_text()}telemetry = "{url}"\nreport_interval = 0.2\n')
        agent = start(agents, "--config", config)
        for times in (2, 3):
            time.sleep(0.5)
            agent.process.send_signal(signal.SIGHUP)
            agent.wait_until_said("runs on xnnpack", times=times)
        time.sleep(0.5)
        summary = agent.stop()
        assert summary["reports"]["lost"] == 0 and "used by another agent" not in agent.said
        if there:
            assert len({r.report.boot for r in collector.store.reports()}) == 3


@pytest.mark.parametrize(
    "broken",
    ["thraeds = 2\n", "threads = 'two'\n", "[", 'source = "npz:gone.npz"\n', 'state = "elsewhere"\n'],
    ids=["unknown key", "wrong type", "no toml", "source gone", "other state"],
)
def test_a_config_that_does_not_hold_changes_nothing_and_is_said(
    agents: Agents, config: Path, tmp_path: Path, broken: str
) -> None:
    good = config.read_text()
    kept = "".join(x for x in good.splitlines(True) if x.split()[0] not in broken)
    agent = start(agents, "--config", config)
    worker = agent.worker_pid
    config.write_text(kept + broken)
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_until_said("reload refused")
    assert agent.worker_pid == worker
    config.write_text(good)
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_until_said("runs on xnnpack", times=2)
    agent.stop()


def test_a_stop_while_it_reloads_is_a_stop(agents: Agents, config: Path) -> None:
    agent = start(agents, "--config", config)
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_until_said("reload: ")
    agent.process.send_signal(signal.SIGTERM)
    agent.process.communicate(timeout=PATIENCE_S)
    assert agent.process.returncode in (0, -signal.SIGTERM)


def test_without_a_config_file_a_hangup_ends_it(agents: Agents, config: Path, tmp_path: Path) -> None:
    """`edgeloop run` over SSH relies on it."""
    agent = start(agents, "--bundle", tmp_path / "digits.bundle", "--source", "synthetic:")
    agent.process.send_signal(signal.SIGHUP)
    assert agent.summary()["end"] == "stop"


def test_with_a_terminal_a_hangup_ends_it(config: Path, tmp_path: Path) -> None:
    """A closed terminal must not leave an agent behind, config file or not."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--json", "--config", str(config)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        os.execv(sys.executable, [*command, "--state", str(tmp_path / "s")])
    said = b""
    while b"runs on" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)  # the kernel sends SIGHUP
    signal.alarm(int(PATIENCE_S))
    _, status = os.waitpid(pid, 0)
    signal.alarm(0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert json.loads(out.read_text())["end"] == "stop"
