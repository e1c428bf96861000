"""`edgeloop-agent status` and `logs` of real agents, and the bounded event log on bad disks."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError
from edgeloop.telemetry.report import Event
from edgeloop_agent.service import event_log
from edgeloop_agent.service.agent_state import alerts_of, state_text
from edgeloop_agent.service.event_log import EventLog, read_events
from edgeloop_agent.service.status import ask
from support.agents import Agents, make_bundle, run_cli
from support.delegate_lib import build_delegate, external


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle")


def test_a_running_agent_says_what_it_runs_how_fast_and_where(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    deep = "state/" + "d" * 150  # longer than a socket's address
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "100", state=deep)
    agent.wait_until_said("runs on xnnpack")
    state = agent.wait_until(lambda: (s := ask(tmp_path / deep))["models"][0]["latency_recent"] and s, "measured")
    [model] = state["models"]
    assert (model["bundle"], model["version"], model["variant"], model["phase"]) == ("digits", 7, "int8", "running")
    assert (model["delegate_ran"], model["threads"], model["worker_pid"]) == ("xnnpack", 1, agent.worker_pid)
    assert model["latency_recent"]["p95_ms"] >= model["latency_recent"]["p50_ms"] > 0
    assert model["counters"]["inferences"] > 0
    assert state["alerts"] == []
    assert state["board"]["name"]
    shown = run_cli("status", "--state", tmp_path / deep)
    assert (shown.returncode, "digits 7 (int8): running on xnnpack" in shown.stdout) == (0, True)
    told = run_cli("status", "--state", tmp_path / deep, "--json")
    assert json.loads(told.stdout)["pid"] == agent.process.pid
    agent.stop()
    gone = run_cli("status", "--state", tmp_path / deep)
    assert (gone.returncode, "no agent runs on" in gone.stderr) == (3, True)


@pytest.mark.slow
def test_a_killed_agent_does_not_run_and_the_next_one_answers(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    first = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "50")
    first.wait_until_said("runs on")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    with pytest.raises(DeviceError, match="no agent runs"):
        ask(tmp_path / "state")
    second = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "50")
    second.wait_until_said("runs on")
    assert ask(tmp_path / "state")["pid"] == second.process.pid
    second.stop()


@pytest.mark.slow
def test_a_fallback_is_an_alert_and_stands_in_the_log(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    broken = external(build_delegate(), crash_create=1)
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--delegate", broken, "--delegate", "cpu"
    )  # fmt: skip
    agent.wait_until_said("runs on cpu")
    agent.wait_until(lambda: ask(tmp_path / "state")["alerts"], "alerted")
    shown = run_cli("status", "--state", tmp_path / "state")
    assert (shown.returncode, "ALERT digits 7: on cpu for" in shown.stdout) == (1, True)
    agent.stop()
    logged = json.loads(run_cli("logs", "--state", tmp_path / "state", "--kind", "fallback", "--json").stdout)
    assert ["SIGSEGV" in event["detail"] for event in logged["events"]] == [True]
    assert "fallback" in run_cli("logs", "--state", tmp_path / "state").stdout
    misspelt = run_cli("logs", "--state", tmp_path / "state", "--kind", "fallbak").stdout
    assert "no event of kind fallbak" in misspelt and "fallback" in misspelt.partition("there are: ")[2]
    assert "fallback" in logged["kinds"]


def test_a_state_folder_of_nobody_is_one_line(tmp_path: Path) -> None:
    for verb in ("status", "logs"):
        done = run_cli(verb, "--state", tmp_path / "none")
        assert done.returncode == 3
        assert done.stderr.count("\n") == 2, done.stderr


def test_a_reader_that_does_not_read_holds_nobody_up(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    import socket

    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "100")
    agent.wait_until_said("runs on")
    lazy = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(20)]
    for one in lazy:
        one.connect(str(tmp_path / "state/agent.sock"))
    before = ask(tmp_path / "state")["models"][0]["counters"]["inferences"]
    agent.wait_until(lambda: ask(tmp_path / "state")["models"][0]["counters"]["inferences"] > before, "went on")
    for one in lazy:
        one.close()
    agent.stop()


def test_the_log_is_bounded_and_keeps_the_last(tmp_path: Path) -> None:
    log = EventLog(tmp_path, pytest.fail, max_file_bytes=2000)
    for i in range(200):
        log.add(Event("restart", 1e9 + i, f"number {i} " + "x" * 100))
    sizes = [(tmp_path / name).stat().st_size for name in (event_log.FILE, event_log.OLDER)]
    assert max(sizes) <= 2000
    numbers = [int(event["detail"].split()[1]) for event in read_events(tmp_path)]
    assert numbers == list(range(numbers[0], 200))
    assert len(numbers) >= 10


def test_a_line_that_a_power_cut_spoiled_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path, pytest.fail)
    log.add(Event("restart", 1.0, "one"))
    with (tmp_path / event_log.FILE).open("ab") as file:
        file.write(b'{"time": 2.0, "ki\n\xff\xfe\n[1]\n')
    log.add(Event("restart", 3.0, "two"))
    assert [event["detail"] for event in read_events(tmp_path)] == ["one", "two"]


def test_a_disk_that_takes_nothing_is_said_once_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    log = EventLog(tmp_path / "gone", said.append)
    for _ in range(3):
        log.add(Event("restart", 1.0, "x"))
    assert (log.lost, len(said)) == (3, 1)
    assert "events are not kept" in said[0]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = EventLog(tmp_path, said.append)
    log.add(Event("restart", 1.0, "kept"))
    real = event_log.os.write
    monkeypatch.setattr(event_log.os, "write", lambda fd, data: real(fd, data[:7]))
    log.add(Event("restart", 2.0, "lost"))
    monkeypatch.undo()
    log.add(Event("restart", 3.0, "kept too"))
    assert [event["detail"] for event in read_events(tmp_path)] == ["kept", "kept too"]
    assert log.lost == 1
    assert "No space left" in said[0]


def test_every_trouble_of_a_state_is_an_alert_with_its_words() -> None:
    model = {
        "model": "", "bundle": "ic", "version": 3, "variant": "int8", "unsigned": True, "phase": "waiting",
        "next_try_s": 4.2, "fallback_s": 700.0, "delegates": ["edgetpu", "xnnpack"], "delegate_ran": "xnnpack",
        "delegated_ops": 0, "total_ops": 0, "runtime": "", "threads": 1, "worker_pid": None, "worker_rss_bytes": None,
        "counters": {"frames": 0}, "latency": None, "latency_recent": None, "last_event": None,
    }  # fmt: skip
    board = {
        "name": "Pi", "temperature_c": 81.0, "accelerator_c": None, "frequency_mhz": 600.0, "clock_governor": None,
        "throttle_flags": 5, "throttled_now": ["under-voltage"], "throttled_since_boot": [],
    }  # fmt: skip
    telemetry = {"delivered": 0, "waiting": 9, "rejected": 0, "lost": 0, "trouble": "no route"}
    state = {
        "agent": "1", "pid": 1, "device": "d", "state": "/s", "uptime_s": 90061.0, "models": [model], "board": board,
        "telemetry": telemetry, "disk_free_bytes": 1 << 20, "events_lost": 2,
    }  # fmt: skip
    alerts = alerts_of(state)
    for text in ("no worker runs", "instead of edgetpu", "not signed", "under-voltage now", "no route", "1 MiB free"):
        assert any(text in alert for alert in alerts), text
    assert "up 1 d 1 h" in state_text({**state, "alerts": alerts})


def test_what_status_costs_the_agent(agents: Agents, bundle: Path, tmp_path: Path) -> None:
    """It is answered between two messages of the worker: a few ms at most, not once a second."""
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "50")
    agent.wait_until_said("runs on")
    began = time.monotonic()
    for _ in range(50):
        ask(tmp_path / "state")
    assert time.monotonic() - began < 40
    agent.stop()
