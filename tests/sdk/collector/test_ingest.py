"""The one way in: poison never blocks, nothing is acknowledged before it is durable."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.collector.notices import Notices
from edgeloop.telemetry.fleet.arrivals import events_of
from edgeloop.telemetry.store import StoreUnavailableError, open_store
from edgeloop.telemetry.wire.codec import (
    MAX_BATCH,
    UNREADABLE_BOOT,
    Ack,
    decode_ack,
    encode_ack,
    encode_batch,
    encode_report,
)
from support.collecting import BOOT, batch_of, make_report, with_event


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def ingest(tmp_path: Path, said: list[str]) -> Iterator[Ingest]:
    store = open_store(f"sqlite:///{tmp_path / 'x.db'}", busy_timeout_s=0.05)
    yield Ingest(store, Notices(said.append))
    store.close()


def test_good_reports_are_acknowledged_as_ranges(ingest: Ingest) -> None:
    ack = ingest.handle(batch_of(*(make_report(n) for n in (1, 2, 3, 7))))
    assert ack.accepted == ((BOOT, 1, 3), (BOOT, 7, 7))
    assert ack.rejected == ()


def test_what_is_stored_is_what_was_sent(ingest: Ingest) -> None:
    reports = [make_report(1), make_report(2, latency={}), make_report(3)]
    ingest.handle(batch_of(*reports))
    assert [each.report for each in ingest.store.reports()] == reports


def test_a_report_of_another_device_than_its_sender_is_rejected(ingest: Ingest) -> None:
    ack = ingest.handle(batch_of(make_report(1), make_report(2, device="pi-2"), make_report(3)), sender="pi-1")
    assert ack.accepted == ((BOOT, 1, 1), (BOOT, 3, 3))
    assert [(each.seq, each.reason) for each in ack.rejected] == [(2, "is from another device")]
    assert ingest.store.quarantined()[0].device == "pi-2"


def test_commands_and_answers_are_those_of_the_sender_or_of_the_batches_one_device(ingest: Ingest) -> None:
    answered: list[tuple[str, tuple[bytes, ...]]] = []
    ingest.pending_commands = lambda device: [device.encode()]
    ingest.on_answers = lambda device, answers: answered.append((device, tuple(answers)))
    one, two = encode_report(make_report(1)), encode_report(make_report(1, device="pi-2"))
    assert ingest.handle(encode_batch([one], [b"a"])).commands == (b"pi-1",)
    assert ingest.handle(encode_batch([], [b"b"]), sender="pi-9").commands == (b"pi-9",)
    assert ingest.handle(encode_batch([one, two], [b"c"])).commands == ()
    assert answered == [("pi-1", (b"a",)), ("pi-9", (b"b",))]


def test_duplicates_are_acknowledged_but_not_stored_again(ingest: Ingest) -> None:
    first = ingest.handle(batch_of(make_report(1), make_report(2)))
    assert ingest.handle(batch_of(make_report(1), make_report(2))) == first
    assert ingest.store.counts().reports == 2
    counts, models, _latency = ingest.metrics.snapshot()
    assert (counts["reports_stored"], counts["reports_duplicate"]) == (2, 2)
    assert next(iter(models.values()))["inferences"] == 40, "a duplicate is not counted twice"


def test_poison_is_rejected_with_a_reason_and_holds_up_nobody(ingest: Ingest, said: list[str]) -> None:
    torn = encode_report(make_report(2))[:-5]
    ack = ingest.handle(batch_of(make_report(1), torn, b"", make_report(3)))
    assert ack.accepted == ((BOOT, 1, 1), (BOOT, 3, 3))
    assert [(r.boot, r.seq) for r in ack.rejected] == [(UNREADABLE_BOOT, zlib.crc32(b)) for b in (torn, b"")]
    assert all(r.reason for r in ack.rejected)
    assert {q.body for q in ingest.store.quarantined()} == {torn, b""}
    assert decode_ack(encode_ack(ack)) == ack
    assert len(said) == 1


def test_a_whole_batch_of_poison_has_an_acknowledgement_that_fits(ingest: Ingest) -> None:
    ack = ingest.handle(encode_batch([bytes([0x7F, n % 256]) * 3 for n in range(MAX_BATCH)]))
    assert len(ack.rejected) == MAX_BATCH
    assert decode_ack(encode_ack(ack)) == ack


def test_what_the_database_objects_to_is_found_and_rejected_alone(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeloop.telemetry.collector import ingest as module

    def lenient(report, received_s, body, made_s, to_row=module.to_row):  # type: ignore[no-untyped-def]
        row = to_row(report, received_s, body, made_s)
        return row if report.seq != 2 else replace(row, values=(*row.values[:-1], None))

    monkeypatch.setattr(module, "to_row", lenient)
    ack = ingest.handle(batch_of(*(make_report(n) for n in (1, 2, 3))))
    assert ack.accepted == ((BOOT, 1, 1), (BOOT, 3, 3))
    assert [(r.boot, r.seq) for r in ack.rejected] == [(BOOT, 2)]
    assert ingest.store.counts().reports == 2
    assert ingest.store.quarantined()[0].device == "pi-1"


def test_without_a_store_there_is_no_acknowledgement_and_it_is_said_once(
    ingest: Ingest, said: list[str], tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            ingest.handle(batch_of(make_report(1)))
    other.execute("ROLLBACK")
    other.close()
    ingest.handle(batch_of(make_report(1)))
    ingest.handle(batch_of(make_report(2)))
    assert len(said) == 2
    assert "nothing is acknowledged" in said[0]
    assert "available again" in said[1]


def test_strangers_names_reach_the_operator_without_control_characters(said: list[str]) -> None:
    notices = Notices(said.append)
    notices.once("a", "device \x1b[31m\nred\u202e")
    assert said == ["device \ufffd[31m\ufffdred\ufffd"]


def test_strangers_cannot_silence_a_trouble(said: list[str]) -> None:
    notices = Notices(said.append)
    for n in range(5000):
        notices.once(f"stranger {n}", "x")
    said.clear()
    notices.trouble("store", "the store is full")
    assert said == ["the store is full"]


@settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(st.lists(st.one_of(st.binary(max_size=80), st.integers(1, 5)), min_size=1, max_size=6), st.randoms())
def test_every_report_of_any_batch_is_either_accepted_or_rejected(
    ingest: Ingest, parts: list[bytes | int], rng: object
) -> None:
    bodies = [encode_report(make_report(part)) if isinstance(part, int) else part for part in parts]
    if isinstance(parts[0], int):  # flip a bit of a real one
        position = rng.randrange(len(bodies[0]))  # type: ignore[attr-defined]
        bodies[0] = bodies[0][:position] + bytes([bodies[0][position] ^ 0x10]) + bodies[0][position + 1 :]
    ack = decode_ack(encode_ack(ingest.handle(encode_batch(bodies))))
    whole = {part for part in parts[1:] if isinstance(part, int)}
    accepted = {(boot, seq) for boot, first, last in ack.accepted for seq in range(first, last + 1)}
    assert {(BOOT, seq) for seq in whole} <= accepted
    stored = {(each.report.boot, each.report.seq) for each in ingest.store.reports()}
    assert accepted <= stored


@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_batch_are_a_data_error(ingest: Ingest, data: bytes) -> None:
    with pytest.raises(DataError):
        ingest.handle(data)


def test_events_are_dated_with_their_report_when_its_clock_was_wrong(ingest: Ingest) -> None:
    ingest.clock = lambda: 1_750_000_000.0
    report = with_event(make_report(1, time_s=600.0, uptime_s=600.0))
    age_s = report.time_s - report.events[0].time_s
    ingest.handle(batch_of(report))
    (event,) = events_of(ingest.store.database, report.device)
    assert event["time_s"] == pytest.approx(1_750_000_000.0 - age_s)
    (stored,) = ingest.store.reports()
    assert stored.report == report, "what the device said stays"


def test_a_defect_that_one_batch_meets_does_not_fail_those_it_came_with(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = ingest.decoding.together
    poison = encode_report(make_report(2))

    def defective(bodies: Sequence[bytes]) -> object:
        if poison in bodies:
            raise ZeroDivisionError
        return decode(bodies)

    monkeypatch.setattr(ingest.decoding, "together", defective)
    first, second, third = ingest.handle_all([Request(batch_of(make_report(n))) for n in (1, 2, 3)])
    assert isinstance(second, ZeroDivisionError)
    assert (first, third) == (Ack(((BOOT, 1, 1),)), Ack(((BOOT, 3, 3),)))
