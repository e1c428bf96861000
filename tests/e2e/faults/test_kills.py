"""kill -9 of each part at random moments: every report that a device kept is stored, once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from support.agents import make_bundle
from support.collecting import collector_process, wait_until
from support.fault_processes import device_command, finish, free_port, made, process
from support.faults import Ledger, amount, judge, python_module, record, stored_keys

pytestmark = pytest.mark.slow


def test_the_agent_is_killed(tmp_path: Path) -> None:
    """The whole program of the device: supervisor and worker, again and again, while it makes and sends reports."""
    kills, reports = amount(2, 15), amount(30, 5000)
    rng = random.Random(1)
    bundle = make_bundle(tmp_path / "digits.bundle")
    with collector_process(tmp_path / "telemetry.db") as collector:
        command = [
            *python_module("support.logged_agent", tmp_path / "ledger", 0.01),
            *("run", "--bundle", bundle, "--source", "synthetic:", "--rate", "100", "--telemetry", collector.url),
            *("--state", tmp_path / "state", "--device", "pi-1", "--stop-timeout", "30"),
        ]
        command = [str(part) for part in command]
        done = 0
        while done < kills or made(tmp_path) < reports:
            before = made(tmp_path)
            # After the last kill it may go on until there are enough.
            enough = max(reports if done >= kills else reports * (done + 1) // (kills + 1), before + 5)
            with process(command, tmp_path / "agent.err") as agent:
                give_up_s = time.monotonic() + 200
                while made(tmp_path) < enough and agent.poll() is None:
                    assert time.monotonic() < give_up_s, (tmp_path / "agent.err").read_text()[-2000:]
                    time.sleep(rng.uniform(0.01, 0.1))
                assert agent.poll() is None, (tmp_path / "agent.err").read_text()[-2000:]
            done += 1
        before = made(tmp_path)
        with process(command, tmp_path / "agent.err") as agent:
            wait_until(lambda: made(tmp_path) > before, "the agent works again")  # a start takes long at a high load
            time.sleep(1.0)
            agent.terminate()
            agent.communicate(timeout=60)
            assert agent.returncode == 0, (tmp_path / "agent.err").read_text()[-2000:]
    verdict = judge(Ledger.read(tmp_path / "ledger"), stored_keys(f"sqlite:///{tmp_path / 'telemetry.db'}"))
    record("agent killed (kill -9)", f"{verdict.kept} reports, {done} kills", str(verdict))
    verdict.check()
    assert verdict.made - verdict.kept <= done, "one at most is in the making at a kill"


def test_the_collector_is_killed(tmp_path: Path) -> None:
    kills, reports = amount(2, 15), amount(400, 6000)
    rng = random.Random(2)
    listen = f"127.0.0.1:{free_port()}"
    store = tmp_path / "telemetry.db"
    done = 0
    with process(device_command(tmp_path, f"http://{listen}", reports), tmp_path / "device.err") as device:
        while done < kills:
            with collector_process(store, listen=listen):
                time.sleep(rng.uniform(0.2, 2.5))
            done += 1
        with collector_process(store, listen=listen):
            finish(device, tmp_path)
    verdict = judge(Ledger.read(tmp_path / "ledger"), stored_keys(f"sqlite:///{store}"))
    record("collector killed (kill -9), SQLite", f"{verdict.kept} reports, {done} kills", str(verdict))
    verdict.check()
    assert verdict.stored == reports
