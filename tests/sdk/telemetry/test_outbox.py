"""The device's end as one thing: what a clock says, and what a batch tells of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop.telemetry.clock import SentAt
from edgeloop.telemetry.delivery import outbox as outbox_module
from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import Ack, Rejected, decode_batch, decode_report
from support.far_end import TinyCollector
from support.reports import BOOT, small_report


class Clocks:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now_s, self.uptime_s = 0.0, 500.0

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.uptime_s


def test_a_batch_tells_the_clocks_at_its_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, collector, sent = Clocks(), TinyCollector(), []
    monkeypatch.setattr(outbox_module, "time", clocks)

    def handle(batch: bytes) -> Ack:
        sent.append(decode_batch(batch).sent)
        return collector.handle(batch)

    outbox = Outbox(MemorySpool(), MemoryTransport(handle), lambda _line: None)
    outbox.submit(replace(small_report(1), uptime_s=100.0))
    clocks.now_s, clocks.uptime_s = 77.0, 512.5
    assert outbox.deliver() == (None, True)
    clocks.now_s = -5.0  # before 1970
    outbox.submit(replace(small_report(2), uptime_s=113.0))
    assert outbox.deliver() == (None, True)
    assert sent == [SentAt(BOOT, 77.0, 112.5), SentAt(BOOT, 0.0, 113.0)]


def test_what_an_earlier_run_left_goes_without_a_time_of_sending() -> None:
    """There is no report of this boot yet, by which the clocks could be told."""
    seen = []
    spool, collector = MemorySpool(), TinyCollector()
    Outbox(spool, MemoryTransport(None), lambda _line: None).submit(small_report(1))

    def handle(batch: bytes) -> Ack:
        seen.append(decode_batch(batch).sent)
        return collector.handle(batch)

    assert Outbox(spool, MemoryTransport(handle), lambda _line: None).deliver() == (None, True)
    assert seen == [None]


def test_what_became_of_reports_is_in_the_next_one() -> None:
    """One that the collector rejects, and two more than are held while the spool takes none."""
    spool, collector = MemorySpool(), TinyCollector()

    def handle(batch: bytes) -> Ack:
        return Ack((), (Rejected(BOOT, 1, "not wanted"),)) if not collector.arrivals else collector.handle(batch)

    outbox = Outbox(spool, MemoryTransport(handle), lambda _line: None)
    outbox.submit(small_report(1))
    outbox.deliver()
    spool.max_bytes = 0
    for seq in range(2, 2 + 64 + 2):
        outbox.submit(small_report(seq))
    assert outbox.totals()["lost"] == 2
    spool.max_bytes = 1 << 20
    outbox.submit(small_report(68))
    counters = [decode_report(report.body).counters for report in spool.pending(100)]
    assert sum(each.get("reports_refused", 0) for each in counters) == 2
    # The report that told of the rejection was among those lost.
    assert all(each["frames"] == 1 for each in counters)


def test_a_rejected_report_is_told_by_the_next() -> None:
    spool = MemorySpool()
    transport = MemoryTransport(lambda _batch: Ack((), (Rejected(BOOT, 1, "not wanted"),)))
    outbox = Outbox(spool, transport, lambda _line: None)
    for seq in (1, 2, 3):
        outbox.submit(small_report(seq))
        outbox.deliver()
    told = [decode_report(report.body).counters.get("reports_quarantined", 0) for report in spool.pending(9)]
    assert told == [1, 0]
