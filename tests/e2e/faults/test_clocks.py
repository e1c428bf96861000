"""Clocks that jump, start in 1970 or were never right, and devices that repeat old reports: in order, once, dated."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from edgeloop.telemetry.clock import TOLERANCE_S
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.simulation.devices import make_report
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import make_report as any_report
from support.faults import Ledger, amount, judge, record
from support.reports import BOOT

pytestmark = pytest.mark.slow

DAY_S = 86400.0


@dataclass
class Clock:
    """Stands in for the module `time` of a device: the true time goes on as the test says, `wrong_s` is added."""

    now_s: float
    wrong_s: float = 0.0
    up_s: float = 0.0

    def time(self) -> float:
        return self.now_s + self.wrong_s

    def monotonic(self) -> float:
        return self.up_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        self.up_s += seconds


COURSES = {
    "starts in 1970, is set after a while": lambda n, now_s: -now_s + 5 if n < 40 else 0.0,
    "jumps a day forward and stays": lambda n, _now_s: DAY_S if n >= 40 else 0.0,
    "jumps a day back and stays": lambda n, _now_s: -DAY_S if n >= 40 else 0.0,
    "jumps a day forward and back": lambda n, _now_s: DAY_S if 30 <= n < 60 else 0.0,
    "is where the board stopped a month ago": lambda _n, _now_s: -30 * DAY_S,
}


@pytest.mark.parametrize("course", COURSES)
def test_a_clock(course: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report a second; every 10th is not answered at once, so that there are batches of one and of several."""
    reports = amount(100, 2000)
    clock = Clock(time.time())
    monkeypatch.setattr("edgeloop.telemetry.delivery.outbox.time", clock)
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}") as collector:
        collector.ingest.clock = lambda: clock.now_s
        outbox = Outbox(MemorySpool(), MemoryTransport(collector.ingest.handle), lambda _line: None)
        truth = {}
        for n in range(1, reports + 1):
            clock.pass_by(1.0)
            clock.wrong_s = COURSES[course](n % 100, clock.now_s)
            outbox.submit(make_report(0, 1, n, BOOT, time_s=clock.time(), uptime_s=clock.up_s, period_s=1.0))
            truth[n] = clock.now_s
            clock.pass_by(0.01)
            if n % 10 > 3:
                outbox.deliver()
        outbox.deliver()
        stored = [each.report for each in collector.store.reports()]
        with collector.store.database.reader.connect() as connection:
            dated = dict(connection.execute(text("SELECT seq, time_s FROM reports")).tuples().all())
    verdict = judge(Ledger(frozenset((BOOT, n) for n in truth), frozenset((BOOT, n) for n in truth)),
                    [(report.boot, report.seq) for report in stored])  # fmt: skip
    in_order = [report.seq for report in stored] == sorted(truth)
    furthest_s = max(abs(dated[n] - truth[n]) for n in truth)
    record(f"a clock that {course}", f"{reports} reports", f"{verdict}, in order, dated within {furthest_s:.1f} s")
    verdict.check()
    assert in_order
    assert furthest_s <= TOLERANCE_S


def test_a_device_that_sends_old_reports_again(tmp_path: Path) -> None:
    """From a backup of its disk: everything that it ever sent, several times over."""
    reports = amount(100, 1000)
    said: list[str] = []
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}", say=said.append) as collector:
        transport = open_transport(collector.url)
        bodies = [encode_report(any_report(n)) for n in range(1, reports + 1)]
        for _ in range(5):
            for first in range(0, reports, 50):
                ack = transport.send(bodies[first : first + 50])
                assert ack.accepted == ((any_report(1).boot, first + 1, first + 50),), "or it would send them for ever"
        changed = encode_report(replace(any_report(1), bundle="another"))
        assert transport.send([changed]).accepted
        kept = [each.report for each in collector.store.reports()]
        transport.close()
    record(
        "a device sends all its old reports again, 5 times", f"{5 * reports} reports", "stored twice 0, none changed"
    )
    assert [report.seq for report in kept] == list(range(1, reports + 1))
    assert kept[0].bundle == "ic", "what was stored first stays"
    assert not said
