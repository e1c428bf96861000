"""One suite for every transport and every collector: what a transport promises, seen from the device.

A new transport gets a line in LINES; its far end goes to tests/support/far_end.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.delivery.carrying import Carrier
from edgeloop.telemetry.delivery.ways import courier_for
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.store import Selection, open_store
from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.wire.codec import MAX_BATCH, UNREADABLE_BOOT, Ack, decode_batch, encode_report
from support.carried_far_end import FileLine
from support.far_end import Collector, HttpLine, Key, Line, MemoryLine, NetworkSerialLine, SerialLine, TinyCollector
from support.mqtt_far_end import MqttLine, MqttsLine
from support.real_far_end import HttpsLine, ListenerLine, UvicornLine
from support.reports import BOOT, OTHER_BOOT, small_body, typical_report

PATIENCE_S = 60.0
SHORT_S = 0.3  # where no answer is to come
CARRIED_S = 0.03  # somebody carries it meanwhile


class StoreCollector:
    """The real collector's core on its real store."""

    def __init__(self, path: Path) -> None:
        self._store = open_store(f"sqlite:///{path}")
        self.handle = Ingest(self._store).handle

    def keys(self) -> list[Key]:
        return sorted((row.report.boot, row.report.seq) for row in self._store.reports(Selection()))

    def close(self) -> None:
        self._store.close()


LINES: dict[str, Callable[[Collector, Path], Line]] = {
    "memory": lambda collector, _folder: MemoryLine(collector),
    "http": lambda collector, _folder: HttpLine(collector),
    "serial": SerialLine,
    "socket": lambda collector, folder: NetworkSerialLine("socket", collector, folder),
    "rfc2217": lambda collector, folder: NetworkSerialLine("rfc2217", collector, folder),
    "uvicorn": UvicornLine,
    "https": HttpsLine,
    "serial listener": ListenerLine,
    "mqtt": MqttLine,
    "mqtts": MqttsLine,
    "file": FileLine,
}


COLLECTORS = ("tiny", "store")
ONE_IS_ENOUGH = frozenset({"socket", "rfc2217", "https", "mqtts"})
"""Lines that differ from another one in what is around the same bytes."""
PAIRS = [(line, kind) for line in LINES for kind in COLLECTORS if kind == "tiny" or line not in ONE_IS_ENOUGH]


@contextmanager
def collecting(kind: str, folder: Path) -> Iterator[Collector]:
    if kind == "tiny":
        yield TinyCollector()
        return
    real = StoreCollector(folder / "telemetry.db")
    yield real
    real.close()


@pytest.fixture(params=COLLECTORS)
def collector(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collector]:
    with collecting(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=PAIRS, ids="-".join)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    name, kind = request.param
    with collecting(kind, tmp_path) as collector:
        opened = LINES[name](collector, tmp_path)
        yield opened
        opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db")
    yield opened
    opened.close()


def _fill(spool: Spool, seqs: range) -> list[Key]:
    for seq in seqs:
        spool.put(small_body(seq), BOOT, seq)
    return [(BOOT, seq) for seq in seqs]


def _deliver_all(spool: Spool, line: Line, timeout_s: float = PATIENCE_S, tries: int = 200) -> int:
    """Calls until the spool is empty, without the waits between; how many calls failed."""
    courier = courier_for(spool, line.transport, timeout_s)
    for failed in range(tries):
        courier.deliver()
        if not spool.stats().reports:
            return failed
        if isinstance(line.transport, Carrier):
            time.sleep(CARRIED_S)
    pytest.fail(f"{spool.stats().reports} reports are still there after {tries} tries")


def test_a_batch_is_delivered_and_acknowledged(line: Line) -> None:
    ack = line.transport.send([small_body(1), small_body(2), small_body(7, boot=OTHER_BOOT)], PATIENCE_S)
    assert sorted(ack.accepted) == [(BOOT, 1, 2), (OTHER_BOOT, 7, 7)]
    assert ack.rejected == ()
    assert line.collector.keys() == [(BOOT, 1), (BOOT, 2), (OTHER_BOOT, 7)]


class _Asking:
    """A collector that hands out a command with every acknowledgement, and keeps the answers."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.answers: list[bytes] = []
        self.keys = collector.keys

    def handle(self, batch: bytes) -> Ack:
        self.answers += decode_batch(batch).answers
        return replace(self._collector.handle(batch), commands=(b"a command",))


def test_commands_come_with_an_acknowledgement_and_answers_go_with_a_batch(line: Line) -> None:
    if isinstance(line.transport, Carrier):
        pytest.skip("a stick carries no commands")
    line.collector = asking = _Asking(line.collector)
    ack = line.transport.send([small_body(1)], PATIENCE_S, [b"an answer", b"another"])
    assert (ack.accepted, ack.commands) == (((BOOT, 1, 1),), (b"a command",))
    line.transport.send((), PATIENCE_S, [b"without a report"])
    assert asking.answers == [b"an answer", b"another", b"without a report"]
    assert line.collector.keys() == [(BOOT, 1)]


def test_several_batches_go_one_after_the_other(line: Line) -> None:
    for seq in range(1, 6):
        assert line.transport.send([small_body(seq)], PATIENCE_S).accepted == ((BOOT, seq, seq),)


def test_a_rejected_report_is_reported_and_the_others_are_taken(line: Line) -> None:
    ack = line.transport.send([small_body(1), b"\xff not a report", small_body(2)], PATIENCE_S)
    assert ack.accepted == ((BOOT, 1, 2),)
    (rejected,) = ack.rejected
    assert rejected.boot == UNREADABLE_BOOT
    assert rejected.reason
    assert line.collector.keys() == [(BOOT, 1), (BOOT, 2)]


def test_delivering_twice_is_harmless(line: Line) -> None:
    first = line.transport.send([small_body(1), small_body(2)], PATIENCE_S)
    assert line.transport.send([small_body(1), small_body(2)], PATIENCE_S) == first
    assert line.collector.keys() == [(BOOT, 1), (BOOT, 2)]


def test_the_largest_batch_goes_through(line: Line) -> None:
    """As large as the transport says it takes, of real reports."""
    bodies: list[bytes] = []
    while len(bodies) < MAX_BATCH and sum(map(len, bodies)) < line.transport.batch_bytes:
        bodies.append(encode_report(typical_report(len(bodies) + 1, samples=50)))
    ack = line.transport.send(bodies, PATIENCE_S)
    assert ack.accepted == ((BOOT, 1, len(bodies)),)
    assert len(line.collector.keys()) == len(bodies) > 100


@pytest.mark.slow
def test_a_far_end_that_is_away_is_one_line_and_it_recovers(line: Line) -> None:
    line.transport.send([small_body(1)], PATIENCE_S)
    line.go_away()
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            line.transport.send([small_body(2)], SHORT_S)
        assert "\n" not in str(caught.value)
    line.come_back()
    assert line.transport.send([small_body(2)], PATIENCE_S).accepted == ((BOOT, 2, 2),)
    assert line.collector.keys() == [(BOOT, 1), (BOOT, 2)]


def test_a_far_end_that_was_never_there_may_come_later(line: Line) -> None:
    line.go_away()
    with pytest.raises(NotAcknowledgedError):
        line.transport.send([small_body(1)], SHORT_S)
    line.come_back()
    assert line.transport.send([small_body(1)], PATIENCE_S).accepted == ((BOOT, 1, 1),)


def test_a_closed_transport_opens_again(line: Line) -> None:
    line.transport.send([small_body(1)], PATIENCE_S)
    line.transport.close()
    line.transport.close()
    assert line.transport.send([small_body(2)], PATIENCE_S).accepted == ((BOOT, 2, 2),)


def test_a_lost_answer_leads_to_a_second_delivery_and_one_stored_report(line: Line, spool: Spool) -> None:
    keys = _fill(spool, range(1, 6))
    line.lost_answers = 2
    _deliver_all(spool, line, SHORT_S)
    assert line.lost_answers == 0
    assert line.collector.keys() == keys
    if isinstance(line.collector, TinyCollector):
        assert max(line.collector.arrivals.values()) > 1, "no answer was lost"


def test_nonsense_for_an_answer_is_no_acknowledgement(line: Line, spool: Spool) -> None:
    keys = _fill(spool, range(1, 4))
    line.garbled_answers = 2
    assert _deliver_all(spool, line, SHORT_S) >= 2
    assert line.collector.keys() == keys


def test_a_spool_is_emptied_past_a_report_that_is_rejected(line: Line, spool: Spool) -> None:
    keys = _fill(spool, range(1, 4))
    spool.put(b"\xff not a report", BOOT, 4)
    keys += _fill(spool, range(5, 8))
    _deliver_all(spool, line)
    assert line.collector.keys() == keys
    stats = spool.stats()
    assert (stats.reports, stats.accepted, stats.rejected, stats.quarantined) == (0, 6, 1, 1)


@pytest.mark.slow
def test_an_outage_loses_and_doubles_nothing(line: Line, spool: Spool) -> None:
    keys = _fill(spool, range(1, 4))
    _deliver_all(spool, line)
    line.go_away()
    courier = courier_for(spool, line.transport, SHORT_S)
    for start in (4, 8, 12):
        keys += _fill(spool, range(start, start + 4))
        outcome = courier.deliver()
        assert outcome.error is not None
        assert courier.delay_s > 0
    assert spool.stats().never_sent > 0, "all was marked as sent while nobody listened"
    line.come_back()
    _deliver_all(spool, line)
    assert line.collector.keys() == keys


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-4, 1e-3])
def test_on_a_bad_line_every_report_arrives_once_and_as_it_was(
    collector: Collector, tmp_path: Path, spool: Spool, rate: float
) -> None:
    """Flipped, lost and doubled bytes both ways."""
    line = SerialLine(collector, tmp_path)
    try:
        line.noise = rate
        keys = _fill(spool, range(1, 61))
        _deliver_all(spool, line, SHORT_S)
        assert line.collector.keys() == keys
        assert spool.stats().rejected == 0, "a damaged report was taken for a bad one"
    finally:
        line.close()


@pytest.mark.slow
def test_a_report_that_cannot_be_sent_in_a_batch_with_others_still_arrives(line: Line, spool: Spool) -> None:
    """The collector fails on one report each time: the others get past it, and it arrives when that is over."""
    cursed = Report("pi-1", BOOT, 3, 1_790_000_000.0, variant="cursed")
    collector, healed = line.collector, False

    class Failing:
        keys = collector.keys

        def handle(self, batch: bytes) -> object:
            if b"cursed" in batch and not healed:
                raise DeviceError("bug in the collector")
            return collector.handle(batch)

    line.collector = Failing()  # type: ignore[assignment]
    keys = _fill(spool, range(1, 3))
    spool.put(encode_report(cursed), BOOT, 3)
    keys += _fill(spool, range(4, 9))
    courier = courier_for(spool, line.transport, SHORT_S)
    for _ in range(30):
        courier.deliver()
        if collector.keys() == keys:
            break
        if isinstance(line.transport, Carrier):
            time.sleep(CARRIED_S)
    assert collector.keys() == keys, "a report that cannot be answered holds up the others"
    healed = True
    _deliver_all(spool, line)
    assert collector.keys() == sorted([*keys, (BOOT, 3)])
