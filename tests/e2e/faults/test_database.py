"""PostgreSQL killed with -9 at random moments, as a power cut of its machine would: every report is stored, once."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from support.fault_processes import device_command, finish, process
from support.faults import Ledger, amount, judge, record, stored_keys
from support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.slow


def kill(server: PostgresServer) -> None:
    """The whole server at once: the postmaster, and with it all that hangs on it."""
    pid = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)


def start_again(server: PostgresServer) -> None:
    """As soon as what is left of the old one is gone."""
    for _ in range(100):
        with suppress(RuntimeError):
            server.start()
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL does not start again")


def test_the_database_is_killed(tmp_path: Path) -> None:
    kills, reports = amount(2, 15), amount(400, 6000)
    rng = random.Random(8)
    said: list[str] = []
    with postgres_server() as server:
        url = server.new_database()
        with (
            start_collector(url, say=said.append) as collector,
            process(device_command(tmp_path, collector.url, reports), tmp_path / "device.err") as device,
        ):
            for _ in range(kills):
                time.sleep(rng.uniform(0.3, 2.5))
                kill(server)
                time.sleep(rng.uniform(0.0, 0.5))
                start_again(server)
            finish(device, tmp_path)
        verdict = judge(Ledger.read(tmp_path / "ledger"), stored_keys(url))
    record("database killed (kill -9), PostgreSQL", f"{verdict.kept} reports, {kills} kills", str(verdict))
    verdict.check()
    assert verdict.stored == reports
    assert len(said) <= 2 * kills, said
