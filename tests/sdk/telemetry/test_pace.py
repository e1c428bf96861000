"""Slow lines: the batch follows what the line carries, and a backlog that it cannot carry away is folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.telemetry.delivery import courier as delivery
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.delivery.pace import MAX_BACKLOG_S, SMALLEST_BYTES, TARGET_S, Pace
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES, Ack, decode_report, encode_report
from support.far_end import TinyCollector
from support.reports import BOOT, typical_report


class SimulatedTime:
    """Stands in for the module `time`."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class SlowLine(MemoryTransport):
    """Takes as long as `bytes_per_s` and a round trip say, and loses a batch that takes longer than the timeout."""

    batch_bytes = MAX_BATCH_BYTES // 4

    def __init__(self, collector: TinyCollector, time: SimulatedTime, bytes_per_s: float, round_trip_s: float) -> None:
        super().__init__(collector.handle)
        self.time, self.bytes_per_s, self.round_trip_s = time, bytes_per_s, round_trip_s
        self.took_s: list[float] = []

    def send(self, batch: Sequence[bytes], timeout_s: float = 10.0) -> Ack:
        took_s = self.round_trip_s + sum(map(len, batch)) / self.bytes_per_s
        self.time.now_s += min(took_s, timeout_s)
        if took_s > timeout_s:
            raise NotAcknowledgedError("no answer in time")
        self.took_s.append(took_s)
        return super().send(batch, timeout_s)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    simulated = SimulatedTime()
    monkeypatch.setattr(delivery, "time", simulated)
    return simulated


@given(st.lists(st.tuples(st.integers(0, MAX_BATCH_BYTES), st.floats(0, 1e6) | st.none()), max_size=50))
def test_a_batch_is_always_something_and_never_more_than_a_collector_takes(
    course: list[tuple[int, float | None]],
) -> None:
    line = Pace(lambda: 0.0)
    for sent_bytes, took_s in course:
        if took_s is None:
            line.failed(sent_bytes)
        else:
            line.acknowledged(sent_bytes, took_s)
        assert SMALLEST_BYTES <= line.batch_bytes <= MAX_BATCH_BYTES


TEMPLATE = replace(typical_report(1), latency={}, counters={}, gauges={}, events=(), unknown={19: b"x" * 400})


def put(spool: MemorySpool, *seqs: int) -> None:
    """Reports of about 500 bytes and one frame each."""
    for seq in seqs:
        spool.put(encode_report(replace(TEMPLATE, seq=seq, counters={"frames": 1})), BOOT, seq)


def frames(spool: MemorySpool) -> int:
    return sum(decode_report(report.body).counters["frames"] for report in spool.pending(100_000, 1 << 40))


@pytest.mark.parametrize("bytes_per_s", [960.0, 5_000.0, 100_000.0])
def test_batches_take_about_as_long_as_they_should_on_any_line(time: SimulatedTime, bytes_per_s: float) -> None:
    line = SlowLine(TinyCollector(), time, bytes_per_s, 0.1)
    spool = MemorySpool()
    put(spool, *range(1, 1001))
    courier = Courier(spool, line, chance=lambda: 1.0)
    for _ in range(100):
        if courier.deliver().done:
            break
        time.now_s += courier.delay_s
    assert spool.stats().reports == 0
    usual = sorted(line.took_s)[len(line.took_s) // 2]
    assert 0.5 < usual <= 1.5 * TARGET_S or len(line.took_s) < 12, "not too small, not too large"


@pytest.mark.parametrize("round_trip_s", [1.5, 4.0])
def test_a_collector_that_is_slow_to_answer_gets_larger_batches_and_not_smaller_ones(
    time: SimulatedTime, round_trip_s: float
) -> None:
    line = SlowLine(TinyCollector(), time, 1e6, round_trip_s)
    spool = MemorySpool()
    put(spool, *range(1, 1001))
    courier = Courier(spool, line, chance=lambda: 1.0)
    for _ in range(20):
        if courier.deliver().done:
            break
    assert len(line.took_s) <= 10


def test_a_fast_line_has_large_batches(time: SimulatedTime) -> None:
    spool = MemorySpool()
    put(spool, *range(1, 1001))
    assert Courier(spool, SlowLine(TinyCollector(), time, 1e7, 0.01)).deliver().batches == 5


@pytest.mark.slow
def test_a_device_that_makes_more_than_its_line_carries_never_has_more_waiting_than_ten_minutes_of_it(
    time: SimulatedTime,
) -> None:
    """9600 baud, ten reports a second, five times what the line carries, for three quarters of an hour."""
    collector = TinyCollector()
    line = SlowLine(collector, time, 960.0, 0.05)
    line.batch_bytes = 1024
    spool = MemorySpool(clock=time.monotonic)
    courier = Courier(spool, line, chance=lambda: 1.0)
    seq, most_bytes = 0, 0
    began_s = time.now_s
    while time.now_s < began_s + 2700:
        due = int((time.now_s - began_s) * 10) + 1  # what was made while the line was busy
        put(spool, *range(seq + 1, due + 1))
        seq = due
        courier.deliver(budget_s=10.0)
        most_bytes = max(most_bytes, spool.stats().bytes)
    stats = spool.stats()
    assert most_bytes < 2 * MAX_BACKLOG_S * 960, "it takes a minute until it is folded"
    assert stats.refused == 0
    assert len(collector.arrivals) > 2700, "more than one a second all the time"
    assert stats.accepted + stats.reports + stats.folded == seq


def test_a_long_time_away_is_not_folded_where_the_line_keeps_up(time: SimulatedTime) -> None:
    line = SlowLine(TinyCollector(), time, 960.0, 0.05)
    line.batch_bytes = 1024
    spool = MemorySpool(clock=time.monotonic)
    put(spool, *range(1, 2001))  # twenty minutes of the line
    assert spool.stats().bytes > MAX_BACKLOG_S * 960
    courier = Courier(spool, line)
    seq = 2000
    while not courier.deliver(budget_s=60.0).done:
        seq += 1  # one a minute comes
        put(spool, seq)
    assert (spool.stats().folded, frames(spool)) == (0, 0)
