"""Reports that another process decodes are those that this one would have decoded, whatever becomes of that process."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.errors import DataError
from edgeloop.telemetry.collector import decoding
from edgeloop.telemetry.collector.decoding import WhereItFits
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.histogram import MAX_VALUE_NS, Histogram
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.wire.codec import encode_report
from edgeloop.telemetry.wire.latency import wires_of
from edgeloop.telemetry.wire.together import Decoded, decode_together
from support.collecting import batch_of, make_report, wait_until
from support.faults import amount, record

EVERY_KIND = [
    *(make_report(n, device=f"pi-{n % 3}", version=n % 2) for n in range(1, 20)),
    replace(make_report(30), events=(Event("restart", 1_750_000_030.0, "worker died"), Event("fallback", 0.0))),
    replace(make_report(31), unknown={40: {"a": [1, -2.5, None, True, b"x", 2**64 - 1]}}, unsigned=True),
    replace(make_report(32), latency={"invoke": Histogram.of_ns([MAX_VALUE_NS] * 5), "own": Histogram()}),
    replace(make_report(33), gauges={"alert_fallback": 2.5}, counters={"own": 2**63 - 1}),
]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def busy(said: list[str], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[WhereItFits]:
    """One that has begun its process."""
    monkeypatch.setattr(decoding, "_has_room", lambda: True)
    made = WhereItFits(said.append, much_per_s=0.0, clock=clock)
    begin(made)
    yield made
    made.stop()


def begin(made: WhereItFits) -> None:
    bodies = [encode_report(make_report(n)) for n in range(1, 20)]
    wait_until(lambda: (made.together(bodies), made.elsewhere)[1], "a process that decodes")


def pid_of(made: WhereItFits) -> int:
    assert made._helper is not None
    return made._helper._process.pid


def seen(reports: Decoded) -> list[object]:
    """Everything of the reports, with types and order."""
    return [
        each.message if isinstance(each, DataError) else (repr(replace(each, latency={})), dict(wires_of(each.latency)))
        for each in reports.reports
    ]


def test_the_other_process_gives_the_same_reports_reasons_and_sums(busy: WhereItFits) -> None:
    rng = random.Random(5)
    bodies = [encode_report(each) for each in EVERY_KIND]
    damaged = [bytearray(body) for body in bodies for _ in range(6)]
    for body in damaged:
        body[rng.randrange(len(body))] = rng.choice([0, 0x18, 0xA1, 0xC1, 0xFB, 0xFF, rng.randrange(256)])
    bodies += [bytes(body) for body in damaged] + [b"", b"\xff", b"x" * 70_000]
    here, there = decode_together(bodies), busy.together(bodies)
    assert type(here) is not type(there)
    assert seen(there) == seen(here)
    for chosen in (lambda _n: True, lambda n: n % 3 == 1, lambda _n: False):
        mine, its = ([r for n, r in enumerate(d.reports) if isinstance(r, Report) and chosen(n)] for d in (here, there))
        assert there.latency_sums(its) == here.latency_sums(mine)


def test_few_reports_are_decoded_here(busy: WhereItFits, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [encode_report(make_report(n)) for n in range(1, 4)]
    assert type(busy.together(bodies)) is type(decode_together(bodies))
    monkeypatch.setattr(decoding, "_has_room", lambda: True)
    clock = Clock()
    calm = WhereItFits(said.append, much_per_s=100.0, clock=clock)
    for _ in range(30):
        clock.now_s += 0.5
        calm.together(bodies * 16)
        assert calm._helper is None


def test_a_process_that_is_killed_costs_no_report_and_is_begun_again(
    busy: WhereItFits, said: list[str], clock: Clock
) -> None:
    bodies = [encode_report(each) for each in EVERY_KIND]
    os.kill(pid_of(busy), signal.SIGKILL)
    assert seen(busy.together(bodies)) == seen(decode_together(bodies))
    assert not busy.elsewhere
    where = "they are decoded in the collector's for a while"
    assert said == [f"the process that decodes reports ended by signal 9; {where}"]
    clock.now_s += 5
    busy.together(bodies)
    assert busy._helper is None, "not at once"
    clock.now_s += 60
    begin(busy)
    assert seen(busy.together(bodies)) == seen(decode_together(bodies))


def test_a_process_that_hangs_is_waited_for_only_so_long(
    busy: WhereItFits, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert busy._helper is not None
    busy._helper._line.settimeout(0.2)
    os.kill(pid_of(busy), signal.SIGSTOP)
    bodies = [encode_report(each) for each in EVERY_KIND]
    assert seen(busy.together(bodies)) == seen(decode_together(bodies))
    assert "did not answer" in said[0]


def test_an_answer_that_comes_late_is_nobodys(busy: WhereItFits, said: list[str]) -> None:
    """One thread gives up waiting while another one waits for its turn, and then the process goes on."""
    assert busy._helper is not None
    busy._helper._line.settimeout(0.5)
    pid = pid_of(busy)
    os.kill(pid, signal.SIGSTOP)
    asked = [[encode_report(make_report(n, device=f"pi-{who}")) for n in range(1, 30)] for who in range(4)]
    answers: dict[int, Decoded] = {}

    def ask(who: int) -> None:
        answers[who] = busy.together(asked[who])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for who in range(4):
        assert seen(answers[who]) == seen(decode_together(asked[who]))
    assert len(said) == 1


def test_it_ends_with_its_collector(busy: WhereItFits) -> None:
    pid = pid_of(busy)
    busy.stop()
    busy.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not busy.elsewhere
    begin_again = [encode_report(make_report(n)) for n in range(1, 30)]
    busy.together(begin_again)
    assert busy._helper is None


def test_reports_are_stored_once_while_the_process_is_killed(busy: WhereItFits, tmp_path: Path, clock: Clock) -> None:
    kills, batches = amount(3, 25), amount(40, 250)
    rng = random.Random(8)
    with_store = open_store(f"sqlite:///{tmp_path / 'telemetry.db'}")
    ingest = Ingest(with_store, decoding=busy)
    wrong: list[object] = []

    def send(device: str) -> None:
        for start in range(1, batches * 20, 20):
            batch = batch_of(*(make_report(n, device=device) for n in range(start, start + 20)))
            for _ in range(2):  # the second time as duplicates
                wrong.extend(each for each in ingest.handle_all([Request(batch)]) if isinstance(each, Exception))

    devices = ["pi-1", "pi-2"]
    threads = [threading.Thread(target=send, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    killed = 0
    while any(thread.is_alive() for thread in threads):
        helper = busy._helper
        if killed < kills and helper is not None and helper.ready:
            os.kill(helper._process.pid, signal.SIGKILL)
            killed += 1
        clock.now_s += 20
        threads[0].join(rng.uniform(0.01, 0.15))
    keys = [(stored.report.device, stored.report.seq) for stored in with_store.reports()]
    with_store.close()
    wanted = {(device, seq) for device in devices for seq in range(1, batches * 20 + 1)}
    lost, twice = len(wanted - set(keys)), len(keys) - len(set(keys))
    result = f"lost {lost}, stored twice {twice}"
    record("the process that decodes is killed (kill -9)", f"{len(wanted)} reports sent twice, {killed} kills", result)
    assert not wrong
    assert (lost, twice, set(keys)) == (0, 0, wanted)
    assert killed
