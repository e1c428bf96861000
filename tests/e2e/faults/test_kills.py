"""kill -9 of each part at random moments: every report that a device kept is stored, once."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.agents import make_bundle
from support.collecting import collector_process
from support.faults import Ledger, amount, environment, judge, python_module, record, stored_keys

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], said: Path) -> Iterator[subprocess.Popen[str]]:
    """Ends with the block, if not before. What it says on stderr is added to a file."""
    with said.open("a") as stderr:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment())
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def device_command(folder: Path, url: str, reports: int) -> list[str]:
    ledger, spool = folder / "ledger", folder / "spool.db"
    return python_module("support.device_side", ledger, spool, url, "pi-1", reports, 250)


def made(folder: Path) -> int:
    """Reports so far, by the ledger."""
    ledger = folder / "ledger"
    return ledger.read_text().count("made") if ledger.exists() else 0


def finish(device: subprocess.Popen[str], folder: Path, timeout_s: float = 120.0) -> None:
    """Wait until the device has delivered everything."""
    out, _ = device.communicate(timeout=timeout_s)
    assert out == "all delivered\n", (folder / "device.err").read_text()[-2000:]


def kill_again_and_again(kills: int, rng: random.Random, restart: Callable[[], None], going: Callable[[], bool]) -> int:
    """How often it was done while the device was going."""
    done = 0
    while done < kills and going():
        time.sleep(rng.uniform(0.2, 1.5))
        restart()
        done += 1
    return done


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
        with process(command, tmp_path / "agent.err") as agent:
            time.sleep(3.0)
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
