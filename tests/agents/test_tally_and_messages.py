"""Counting across workers, reports of a period, and the messages between the two processes."""

from __future__ import annotations

import socket

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DeviceError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import MAX_EVENTS, Event, Report
from edgeloop.telemetry.wire.codec import decode_report, encode_report
from edgeloop_agent.ipc import BEGUN, BUSY_SINCE_NS, ERRORS, INFERRED, Channel, Page, last_counts_of
from edgeloop_agent.reports.tally import Counts, Identity, RunsOn, Tally

WHO = Identity("pi-1", "00112233445566aa", "digits", 7, "int8", unsigned=False)


def take(tally: Tally) -> Report:
    return tally.take_report(time_s=1e9, uptime_s=5.0, period_s=2.0, gauges={"load_1m": 0.5})


def test_workers_count_from_zero_and_the_sums_go_on() -> None:
    tally = Tally(WHO)
    tally.worker_started()
    tally.counted(Counts(10, 9, 1))
    tally.worker_ended(Counts(15, 12, 2))  # one frame was in its hands
    tally.worker_started()
    tally.worker_ended(Counts(5, 5, 0))
    assert tally.taken == 20
    assert dict(tally.totals) == {"frames": 20, "inferences": 17, "errors": 2, "drops": 1}


def test_frames_that_a_newer_one_replaced_are_drops_and_were_not_taken() -> None:
    tally = Tally(WHO)
    tally.worker_started()
    tally.counted(Counts(begun=4, inferred=3, dropped=10))
    tally.worker_ended(Counts(begun=5, inferred=4, dropped=12))  # one frame was in its hands
    totals = tally.totals
    assert (totals["frames"], totals["inferences"], totals["drops"], tally.taken) == (17, 4, 13, 5)


def test_result_lines_in_a_dead_workers_hands_are_sink_errors() -> None:
    tally = Tally(WHO)
    tally.worker_ended(Counts(10, 10, 0, sink_errors=3, sink_lines=12), sinks=2)
    assert tally.totals["sink_errors"] == 3 + 5
    tally.worker_started()
    tally.worker_ended(Counts(4, 3, 0, sink_errors=0, sink_lines=6), sinks=2)
    assert tally.totals["sink_errors"] == 8


def test_a_report_is_about_its_own_period() -> None:
    tally = Tally(WHO, RunsOn("edgetpu", "cpu", 0, 9, "litert"))
    tally.counted(Counts(4, 4))
    tally.measured({"invoke": Histogram.of_ms([1.0, 2.0])})
    tally.happened(Event("restart", 1e9, "why"))
    first = take(tally)
    tally.counted(Counts(5, 5))
    tally.measured({"invoke": Histogram.of_ms([3.0])})
    second = take(tally)
    assert (first.seq, first.counters["inferences"], first.latency["invoke"].count, len(first.events)) == (1, 4, 2, 1)
    assert (second.seq, second.counters["inferences"], second.latency["invoke"].count, second.events) == (2, 1, 1, ())
    assert first.gauges == {"load_1m": 0.5, "fps": 2.0}
    summary = tally.summary()
    assert (summary["inferences"], summary["latency"]["invoke"]["n"]) == (5, 3)


def test_every_report_can_be_encoded_whatever_the_delegate_is_called_and_however_much_happens() -> None:
    tally = Tally(WHO, RunsOn("external:/" + "x" * 300 + "/lib.so", "ex\x1bternal", 1, 9, "litert"))
    for i in range(3 * MAX_EVENTS):
        tally.happened(Event("restart", 1e9 + i, "\udcff\n" * 400))
    report = decode_report(encode_report(take(tally)))
    assert report.delegate_asked.endswith("/lib.so")
    assert len(report.events) == MAX_EVENTS
    assert report.counters["events_dropped"] == 2 * MAX_EVENTS


@pytest.mark.parametrize(
    ("slots", "begun", "lost"),
    [
        ({BEGUN: 5, INFERRED: 4, ERRORS: 1}, 5, 0),  # between two frames
        ({BEGUN: 5, INFERRED: 4, ERRORS: 0, BUSY_SINCE_NS: 99}, 5, 1),  # in the middle of an inference
        ({BEGUN: 5, INFERRED: 5, BUSY_SINCE_NS: 99}, 6, 1),  # while the sixth frame was being read: it is not met again
    ],
)
def test_the_frame_that_a_worker_died_on_is_lost_and_never_tried_again(slots: dict, begun: int, lost: int) -> None:
    counts = last_counts_of([slots.get(i, 0) for i in range(9)])
    assert (counts.begun, counts.in_flight) == (begun, lost)


def test_the_page_is_shared_through_its_descriptor() -> None:
    import os

    mine = Page()
    theirs = Page(os.dup(mine.fd))
    theirs.slots[INFERRED] = 1 << 40
    assert mine.slots[INFERRED] == 1 << 40
    theirs.close()
    mine.close()


def channels() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair()
    return Channel(ours), theirs


def test_messages_arrive_whole_however_they_are_cut() -> None:
    receiver, wire = channels()
    sender, tap = channels()
    for i in range(3):
        sender.send({"kind": "stats", "n": i, "blob": b"x" * 300})
    data = tap.recv(1 << 16)
    received = []
    for i in range(0, len(data), 7):
        wire.sendall(data[i : i + 7])
        received += receiver.receive() or []
    assert [m["n"] for m in received] == [0, 1, 2]
    wire.close()
    assert receiver.receive() is None


@given(st.binary(min_size=1, max_size=64) | st.just(cbor2.dumps([1])) | st.just(cbor2.dumps({"kind": 3})))
def test_nonsense_from_a_worker_is_a_device_error(body: bytes) -> None:
    receiver, wire = channels()
    wire.sendall(len(body).to_bytes(4, "big") + body)
    try:
        assert all(isinstance(m["kind"], str) for m in receiver.receive() or [])
    except DeviceError:
        pass
    finally:
        wire.close()
        receiver.close()


def test_a_message_that_claims_to_be_huge_is_refused() -> None:
    receiver, wire = channels()
    wire.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(DeviceError, match="4294967295 bytes"):
        receiver.receive()


def test_gated_frames_are_neither_lost_nor_without_their_lines() -> None:
    counts = Counts(begun=10, inferred=4, errors=1, gated=4, reused=3, sink_lines=12)
    assert counts.in_flight == 1  # the one in work when the worker died
    assert counts.unwritten(sinks=2) == 2  # two lines each of 4 inferences and 3 reused results
