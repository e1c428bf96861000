"""What to send and when to try again: the decisions alone, and the loop around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DeviceError
from edgeloop.telemetry.delivery.courier import (
    MAX_DELAY_S,
    PATIENCE,
    Courier,
    choose_batch,
    deliver_pending,
    lets_others_go_first,
    retry_delay_s,
)
from edgeloop.telemetry.spool.spool import Spool, SpooledReport
from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import Ack
from support.far_end import TinyCollector
from support.reports import BOOT, small_body

WAITING = SpooledReport(BOOT, 1, b"x" * 100)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db")
    yield opened
    opened.close()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(1, 40), st.integers(1, 5000))
def test_a_batch_is_the_beginning_that_fits_and_never_empty(sizes: list[int], max_reports: int, max_bytes: int) -> None:
    pending = [SpooledReport(BOOT, seq, b"x" * size) for seq, size in enumerate(sizes, 1)]
    batch = choose_batch(pending, max_reports, max_bytes)
    assert list(batch) == pending[: len(batch)]
    assert 1 <= len(batch) <= max_reports
    assert len(batch) == 1 or sum(len(report.body) for report in batch) <= max_bytes


def test_a_deferred_report_goes_alone() -> None:
    deferred = replace(WAITING, seq=2, deferred=1)
    assert choose_batch([WAITING, WAITING, deferred], 200, 10**6) == [WAITING, WAITING]
    assert choose_batch([deferred, deferred], 200, 10**6) == [deferred]


def test_delays_double_up_to_a_minute_and_never_synchronize() -> None:
    assert retry_delay_s(0, 1.0) == 0.0
    assert [retry_delay_s(n, 1.0) for n in (1, 2, 3, 7, 8, 10**6)] == [
        1.0,
        2.0,
        4.0,
        MAX_DELAY_S,
        MAX_DELAY_S,
        MAX_DELAY_S,
    ]
    assert retry_delay_s(5, 0.0) == retry_delay_s(5, 1.0) / 2


def test_only_a_single_report_that_is_to_blame_lets_others_go_first() -> None:
    silent, blaming = NotAcknowledgedError("no answer"), NotAcknowledgedError("500", blames_batch=True)
    assert lets_others_go_first([WAITING], blaming)
    assert not lets_others_go_first([WAITING, WAITING], blaming)
    assert not lets_others_go_first([WAITING], silent)
    assert lets_others_go_first([replace(WAITING, sends=PATIENCE)], silent)
    assert not lets_others_go_first([replace(WAITING, sends=PATIENCE, deferred=1)], silent)
    assert not lets_others_go_first([WAITING], DeviceError("the spool's disk"))
    assert not lets_others_go_first([], None)


def test_reports_are_marked_before_the_transport_sees_them(spool: Spool) -> None:
    seen: list[int] = []

    class Watching(MemoryTransport):
        def send(self, batch: Sequence[bytes], timeout_s: float = 1.0) -> Ack:
            seen.extend(report.sends for report in spool.pending(10))
            return super().send(batch, timeout_s)

    spool.put(small_body(1), BOOT, 1)
    spool.put(small_body(2), BOOT, 2)
    assert deliver_pending(spool, Watching(TinyCollector().handle)).done
    assert seen == [1, 1]


def test_many_reports_go_in_few_batches(spool: Spool) -> None:
    for seq in range(1, 251):
        spool.put(small_body(seq), BOOT, seq)
    outcome = deliver_pending(spool, MemoryTransport(TinyCollector().handle))
    assert (outcome.accepted, outcome.batches, outcome.done) == (250, 2, True)


def test_while_nobody_listens_little_is_marked_as_sent(spool: Spool) -> None:
    courier = Courier(spool, MemoryTransport(None), chance=lambda: 1.0)
    delays = []
    for seq in range(1, 101):
        spool.put(small_body(seq), BOOT, seq)
        assert courier.deliver().error is not None
        delays.append(courier.delay_s)
    assert delays[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_DELAY_S]
    assert spool.stats().never_sent >= 85


def test_a_collector_that_acknowledges_nothing_does_not_spin(spool: Spool) -> None:
    calls: list[bytes] = []

    def ignore(batch: bytes) -> Ack:
        calls.append(batch)
        return Ack(accepted=((BOOT, 1000, 2000),))

    spool.put(small_body(1), BOOT, 1)
    outcome = deliver_pending(spool, MemoryTransport(ignore))
    assert outcome.error is not None
    assert (len(calls), outcome.left) == (1, 1)


def test_success_resets_the_courier(spool: Spool) -> None:
    transport = MemoryTransport(None)
    courier = Courier(spool, transport)
    spool.put(small_body(1), BOOT, 1)
    courier.deliver()
    assert (courier.failures, courier.delay_s > 0) == (1, True)
    transport.handle = TinyCollector().handle
    assert courier.deliver().done
    assert (courier.failures, courier.delay_s) == (0, 0.0)


def test_a_budget_of_nothing_sends_nothing(spool: Spool) -> None:
    spool.put(small_body(1), BOOT, 1)
    outcome = deliver_pending(spool, MemoryTransport(TinyCollector().handle), budget_s=0.0)
    assert (outcome.out_of_time, outcome.left, spool.stats().never_sent) == (True, 1, 1)


def test_a_spool_that_fails_is_an_outcome_and_no_exception(spool: Spool) -> None:
    spool.put(small_body(1), BOOT, 1)
    spool.close()
    other = Spool(spool.path)
    outcome = deliver_pending(spool, MemoryTransport(TinyCollector().handle))
    assert outcome.error is not None
    assert "another agent" in outcome.error.message
    other.close()
