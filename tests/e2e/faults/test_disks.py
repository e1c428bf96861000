"""Disks that are full on either side, and a database that somebody else holds: reports wait, and then arrive once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from support import full_disks
from support.faults import amount, environment, judge, record
from support.reporter import Reporter

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("side", ["collector", "device"])
def test_a_disk_is_full(tmp_path: Path, side: str) -> None:
    """A small file system of its own, in a namespace of its own, filled by others and emptied again."""
    mount = f"mount -t tmpfs -o size=6m none {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*command, mount], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system in a namespace of its own")
    rounds = amount(2, 20)
    script = f"{mount} && exec {sys.executable} -m {full_disks.__name__} {tmp_path} {side} {rounds}"
    result = subprocess.run([*command, script], capture_output=True, text=True, env=environment(), timeout=280)
    assert result.returncode == 0, result.stderr[-3000:]
    n, verdict = result.stdout.splitlines()
    record(f"the {side}'s disk is full, {rounds} times", n, verdict)


def test_the_database_is_locked_by_somebody(tmp_path: Path) -> None:
    rounds = amount(1, 5)
    said: list[str] = []
    store = tmp_path / "telemetry.db"
    with start_collector(f"sqlite:///{store}", say=said.append) as collector:
        device = Reporter(Spool(tmp_path / "spool.db"), open_transport(collector.url))
        device.make(5)
        device.deliver_all()
        for _ in range(rounds):
            holder = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
            holder.execute("BEGIN EXCLUSIVE")
            device.make(20)
            freed = threading.Timer(8.0, holder.execute, ["ROLLBACK"])
            freed.start()
            began_s = time.monotonic()
            assert not device.deliver(), "a locked database acknowledges nothing"
            device.deliver_all()
            assert time.monotonic() - began_s > 4
            freed.join()
            holder.close()
        verdict = judge(device.ledger, [(each.report.boot, each.report.seq) for each in collector.store.reports()])
    record(f"database locked for 8 s, {rounds} times", f"{verdict.kept} reports", f"{verdict}; answered 503")
    verdict.check()
    assert 2 * rounds <= len(said) <= 4 * rounds, said  # when it begins and when it ends; the upkeep may say so, too
    assert any("503" in error for error in device.errors)
