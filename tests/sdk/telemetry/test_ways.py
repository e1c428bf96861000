"""Several ways to one collector: which one now, what is said of it, and that nothing is stored twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.delivery.ways import (
    BACK,
    FALLBACK,
    FIRST_RETRY_S,
    LEAVE_AFTER,
    MAX_RETRY_S,
    Way,
    Ways,
    WayState,
    choose_way,
    open_ways,
)
from edgeloop.telemetry.report import Event
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import Ack, decode_report
from support.far_end import TinyCollector
from support.reports import BOOT, small_body, small_report


def out(retry_s: float, failures: int = LEAVE_AFTER) -> WayState:
    return WayState(failures, retry_s)


FINE = WayState()


@pytest.mark.parametrize(
    ("states", "now_s", "chosen"),
    [
        ([FINE], 0.0, 0),
        ([out(100.0)], 0.0, 0),  # there is no other one
        ([FINE, FINE], 0.0, 0),
        ([WayState(LEAVE_AFTER - 1), FINE], 0.0, 0),  # a hiccup is no reason
        ([out(100.0), FINE, FINE], 99.9, 1),
        ([out(100.0), FINE], 100.0, 0),  # the preferred one is tried again
        ([out(100.0), out(50.0), FINE], 99.0, 1),
        ([out(100.0), out(50.0), out(70.0)], 10.0, 1),  # all are out: the one that is due next
    ],
)
def test_the_first_way_that_is_not_out_is_chosen(states: Sequence[WayState], now_s: float, chosen: int) -> None:
    assert choose_way(states, now_s) == chosen


def test_a_way_that_is_out_is_tried_less_and_less_but_always_again() -> None:
    state, waits = FINE, []
    for _ in range(LEAVE_AFTER + 6):
        state = state.after(failed=True, now_s=1000.0)
        waits.append(state.retry_s - 1000.0)
    assert waits[LEAVE_AFTER - 1 : LEAVE_AFTER + 2] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert waits[-1] == MAX_RETRY_S
    assert state.after(failed=False, now_s=0.0) == FINE


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 500)), max_size=60))
def test_no_way_is_left_for_good(tries: list[tuple[int, bool, float]]) -> None:
    states, now_s = [FINE] * 3, 0.0
    for count, failed, passed_s in tries:
        now_s += passed_s
        for _ in range(count):
            chosen = choose_way(states, now_s)
            states[chosen] = states[chosen].after(failed=failed, now_s=now_s)
    assert choose_way(states, now_s + MAX_RETRY_S) == 0


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Fleet:
    """One device with a spool and ways `a` and `b` into one collector."""

    def __init__(self) -> None:
        self.collector, self.clock, self.spool = TinyCollector(), Clock(), MemorySpool()
        self.a, self.b = MemoryTransport(self.collector.handle), MemoryTransport(self.collector.handle)
        self.ways = Ways(self.spool, [Way("http://a", self.a), Way("mqtt://b", self.b)], clock=self.clock)

    def put(self, *seqs: int) -> None:
        for seq in seqs:
            self.spool.put(small_body(seq), BOOT, seq)


def test_the_second_way_is_used_when_the_first_fails_and_left_when_it_is_back() -> None:
    fleet = Fleet()
    fleet.put(1)
    assert fleet.ways.deliver().done
    assert fleet.ways.take_news() == [] and fleet.ways.used.name == "http://a"
    fleet.a.handle = None
    fleet.put(2)
    outcomes = [fleet.ways.deliver() for _ in range(LEAVE_AFTER)]
    assert [outcome.done for outcome in outcomes] == [False] * (LEAVE_AFTER - 1) + [True]
    assert fleet.ways.delay_s == 0
    assert fleet.ways.take_news() == [(FALLBACK, "memory: no collector is there; reports go by mqtt://b")]
    fleet.clock.now_s = FIRST_RETRY_S
    fleet.put(3)
    assert fleet.ways.deliver().done  # the first one was tried, and the second one right after it
    assert fleet.ways.take_news() == []
    fleet.a.handle = fleet.collector.handle
    fleet.put(4)
    assert fleet.ways.deliver().done and fleet.ways.used.name == "mqtt://b"  # not due yet
    fleet.clock.now_s = 5 * FIRST_RETRY_S
    fleet.put(5)
    assert fleet.ways.deliver().done
    assert fleet.ways.take_news() == [(BACK, "reports go by http://a again")]
    assert fleet.ways.take_counts() == {"reports_by_http": 2, "reports_by_mqtt": 3}
    assert fleet.collector.keys() == [(BOOT, seq) for seq in range(1, 6)]


def test_with_all_ways_away_everything_is_kept_and_goes_by_the_first_that_returns() -> None:
    fleet = Fleet()
    fleet.a.handle = fleet.b.handle = None
    fleet.put(1, 2)
    for _ in range(12):
        assert fleet.ways.deliver().error is not None
        assert fleet.ways.delay_s > 0
        fleet.clock.now_s += 30
    fleet.b.handle = fleet.collector.handle
    fleet.clock.now_s += MAX_RETRY_S
    for _ in range(3):
        fleet.ways.deliver()
        fleet.clock.now_s += MAX_RETRY_S
    assert fleet.collector.keys() == [(BOOT, 1), (BOOT, 2)]


def test_a_lost_answer_on_one_way_and_delivery_by_another_is_one_stored_report() -> None:
    fleet = Fleet()

    def loses_the_answer(batch: bytes) -> Ack:
        fleet.collector.handle(batch)
        raise TimeoutError

    fleet.a.handle = loses_the_answer
    fleet.put(1, 2, 3)
    for _ in range(LEAVE_AFTER):
        last = fleet.ways.deliver()
    assert last.done
    assert fleet.collector.keys() == [(BOOT, 1), (BOOT, 2), (BOOT, 3)]
    assert fleet.collector.arrivals[BOOT, 1] > 1


def test_what_went_to_a_stick_and_then_by_the_line_is_stored_once_and_the_stick_is_cleared(tmp_path: Path) -> None:
    collector, clock, spool = TinyCollector(), Clock(), MemorySpool()
    line = MemoryTransport(None)
    stick = Way("file:///stick", open_transport(f"file://{tmp_path}", device="pi-1"))
    ways = Ways(spool, [Way("http://a", line), stick], clock=clock)
    spool.put(small_body(1), BOOT, 1)
    for _ in range(LEAVE_AFTER):
        last = ways.deliver()
    assert (last.done, last.carried) == (True, 1)
    CarriedImport(collector.handle, keep=True).run(tmp_path)  # it was at the collector, and is back unanswered
    next(tmp_path.rglob("*.ack")).unlink()
    line.handle = collector.handle
    clock.now_s = MAX_RETRY_S
    spool.put(small_body(2), BOOT, 2)
    assert ways.deliver().accepted == 2
    assert list(tmp_path.rglob("*.batch")) == []
    assert collector.keys() == [(BOOT, 1), (BOOT, 2)]
    assert ways.used.name == "http://a"


def test_the_state_says_which_way_and_how_many_reports_lie_on_a_stick(tmp_path: Path) -> None:
    outbox = Outbox(MemorySpool(), open_ways([f"file://{tmp_path}"], "pi-1"), lambda _line: None)
    outbox.submit(small_report(1))
    assert outbox.deliver() == (None, True)
    state = outbox.state()
    assert (state["way"], state["waiting"], state["carried"]) == (f"file://{tmp_path}", 1, 1)
    CarriedImport(TinyCollector().handle).run(tmp_path)
    outbox.deliver()
    state = outbox.state()
    assert (state["delivered"], state["waiting"], state["carried"]) == (1, 0, 0)


def test_the_next_report_says_by_which_way_and_people_are_told_once() -> None:
    collector = TinyCollector()
    said: list[str] = []
    first, second = MemoryTransport(None), MemoryTransport(collector.handle)
    spool = MemorySpool()
    seen: list[Event] = []
    outbox = Outbox(spool, [Way("https://a", first), Way("file:///stick", second)], said.append, seen.append)
    outbox.submit(small_report(1))
    for _ in range(LEAVE_AFTER + 3):
        outbox.deliver()
    outbox.submit(small_report(2))
    events = decode_report(spool.pending(1)[0].body).events
    assert [(event.kind, event.detail) for event in events] == [
        (FALLBACK, "memory: no collector is there; reports go by file:///stick")
    ]
    assert [event.kind for event in seen] == [FALLBACK]
    assert decode_report(spool.pending(1)[0].body).counters["reports_by_file"] == 1
    assert said == [
        "telemetry: memory: no collector is there; reports are kept",
        "telemetry_fallback: memory: no collector is there; reports go by file:///stick",
    ]
    assert outbox.state()["way"] == "file:///stick" and outbox.state()["trouble"] == ""
    outbox.deliver()
    outbox.submit(small_report(3))
    assert decode_report(spool.pending(1)[0].body).events == ()


def test_names_of_ways_hold_no_options_and_no_way_is_given_twice() -> None:
    ways = open_ways(["http://127.0.0.1:1", "file:///stick?max=3"], "pi-1")
    assert [way.name for way in ways] == ["http://127.0.0.1:1", "file:///stick"]
    with pytest.raises(UsageError, match="twice"):
        open_ways(["http://127.0.0.1:1"] * 2, "pi-1")
