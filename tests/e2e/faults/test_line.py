"""A serial line with flipped, lost and doubled bytes both ways, over two real pseudo-terminals."""

from __future__ import annotations

import os
import random
import select
import threading
import time
import tty
from pathlib import Path

import pytest

from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from support.faults import amount, judge, record
from support.noise import noisy
from support.reporter import Reporter

pytestmark = pytest.mark.slow


class BadCable:
    """Two ports, `near` and `far`; what is written to one comes out of the other, with `rate` faults per byte, and no
    faster than `bytes_per_s`."""

    def __init__(self, folder: Path, rate: float = 0.0, bytes_per_s: float = 1e9) -> None:
        self._rate, self._bytes_per_s, self._rng = rate, bytes_per_s, random.Random(3)
        self._masters, self._slaves, self.ports = [], [], []
        for name in ("near", "far"):
            master, slave = os.openpty()
            tty.setraw(slave)
            (folder / name).symlink_to(os.ttyname(slave))
            self._masters.append(master)
            self._slaves.append(slave)
            self.ports.append(folder / name)
        self.bytes = self.faults = 0
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        others = dict(zip(self._masters, reversed(self._masters), strict=True))
        while True:
            ready, _, _ = select.select([*self._masters, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            for master in ready:
                data = os.read(master, max(1, min(int(self._bytes_per_s / 50), 65536)))
                self.bytes += len(data)
                time.sleep(len(data) / self._bytes_per_s)
                if self._rate:
                    data, faults = noisy(data, self._rate, self._rng)
                    self.faults += faults
                while data:
                    data = data[os.write(others[master], data) :]

    def close(self) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join()
        for descriptor in (*self._masters, *self._slaves, self._stop_read, self._stop_write):
            os.close(descriptor)


def test_bytes_are_flipped_lost_and_doubled(tmp_path: Path) -> None:
    reports = amount(60, 5000)
    cable = BadCable(tmp_path, 1e-3)
    near, far = cable.ports
    said: list[str] = []
    with start_collector(
        f"sqlite:///{tmp_path / 'telemetry.db'}", serial_ports=[f"{far}?baud=4000000"], say=said.append
    ) as collector:
        spool = Spool(tmp_path / "spool.db")
        transport = open_transport(f"serial://{near}?baud=4000000")
        device = Reporter(spool, transport, timeout_s=0.15)
        while len(device.bodies) < reports:
            device.make(2)
            device.deliver_all(longest_wait_s=0.0)
        transport.close()
        stored = list(collector.store.reports())
        verdict = judge(device.ledger, [(each.report.boot, each.report.seq) for each in stored])
        quarantined = collector.store.counts().quarantined
        wrong = device.wrong(stored)
    cable.close()
    outcome = f"lost {verdict.lost}, stored twice {verdict.twice}, wrong accepted {wrong + quarantined}"
    record(
        "1 byte in 1000 flipped, lost or doubled, serial line both ways",
        f"{reports} reports, {cable.faults} faults in {cable.bytes} bytes",
        f"{outcome}; {len(device.errors)} batches sent again",
    )
    verdict.check()
    assert (wrong, quarantined, spool.stats().rejected) == (0, 0, 0)
    assert cable.faults > reports // 20
    assert len(said) <= 2, said


def test_a_line_of_9600_baud(tmp_path: Path) -> None:
    """A line that carries 960 bytes a second, half duplex, and a device that makes a third of that: it keeps up, by the
    clock, and what waited before it was plugged in is gone soon."""
    seconds = amount(8, 120)
    cable = BadCable(tmp_path, bytes_per_s=960.0)
    near, far = cable.ports
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}", serial_ports=[f"{far}?baud=9600"]) as collector:
        transport = open_transport(f"serial://{near}?baud=9600")
        device = Reporter(Spool(tmp_path / "spool.db"), transport)
        device.make(seconds // 4)  # as if it had been away
        began_s, most = time.monotonic(), 0
        while time.monotonic() < began_s + seconds:
            device.make(1)
            device.courier.deliver(budget_s=1.0)
            most = max(most, device.spool.stats().reports)
            time.sleep(max(0.0, began_s + len(device.kept) - seconds // 4 - time.monotonic()))
        left = device.spool.stats().reports
        device.deliver_all()
        verdict = judge(device.ledger, [(s.report.boot, s.report.seq) for s in collector.store.reports()])
        transport.close()
    cable.close()
    record("a serial line of 9600 baud, a report a second, and a backlog", f"{verdict.kept} reports",
           f"{verdict}; at most {most} waiting, {left} at the end, none folded")  # fmt: skip
    verdict.check()
    assert left <= 2
    assert device.errors == []
    assert device.spool.stats().folded == 0
