"""Many wires at once are judged and read as each one alone."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import MAX_COUNT, MAX_VALUE_NS, Histogram
from edgeloop.telemetry.overview import model_of
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.wire.codec import decode_report, encode_report
from edgeloop.telemetry.wire.histogram_arrays import RunningMerge, merged, read
from edgeloop.telemetry.wire.together import decode_together
from support.reports import small_report, typical_report

HISTOGRAMS = st.lists(st.integers(0, 2**40) | st.integers(0, 2000), max_size=60).map(Histogram.of_ns)
WIRES = HISTOGRAMS.map(Histogram.to_wire)


@st.composite
def hostile_wires(draw: st.DrawFn) -> bytes:
    """A real one with a few bytes changed, put in, left out or cut off; or just bytes."""
    wire = bytearray(draw(WIRES | st.binary(max_size=20)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, max(len(wire) - 1, 0)))
        byte = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        how = draw(st.sampled_from(["change", "insert", "delete", "cut"]))
        if how == "insert" or not wire:
            wire[position:position] = bytes([byte])
        elif how == "change":
            wire[position] = byte
        elif how == "delete":
            del wire[position]
        else:
            del wire[position:]
    return bytes(wire)


def one_by_one(wire: bytes) -> Histogram | None:
    try:
        return Histogram.from_wire(wire)
    except DataError:
        return None


@settings(max_examples=400, deadline=None)
@given(st.lists(hostile_wires(), min_size=1, max_size=12))
def test_what_is_called_plain_is_what_the_scalar_reader_takes_and_holds_the_same(wires: list[bytes]) -> None:
    arrays = read(wires)
    for number, wire in enumerate(wires):
        if arrays.plain[number]:
            histogram = one_by_one(wire)
            assert histogram is not None
            mine = arrays.owner == number
            assert dict(zip(arrays.index[mine].tolist(), arrays.count[mine].tolist(), strict=True)) == histogram.buckets
            columns = (arrays.zero_count, arrays.sum_ns, arrays.min_ns, arrays.max_ns)
            state = (histogram.zero_count, histogram.sum_ns, histogram.min_ns, histogram.max_ns)
            assert tuple(int(column[number]) for column in columns) == state


@settings(max_examples=60, deadline=None)
@given(st.lists(WIRES, max_size=12))
def test_what_devices_send_takes_the_quick_door(wires: list[bytes]) -> None:
    assert read(wires).plain.all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(HISTOGRAMS, st.integers(0, 3)), max_size=12))
def test_merging_by_group_is_merging_one_by_one(parts: list[tuple[Histogram, int]]) -> None:
    found = merged([part.to_wire() for part, _ in parts], [group for _, group in parts], 4)
    assert found == [Histogram.merged(part for part, group in parts if group == wanted) for wanted in range(4)]


def test_numbers_beyond_64_bits_are_exact() -> None:
    huge = Histogram.of_ns([MAX_VALUE_NS] * 3)
    huge.buckets = dict.fromkeys(huge.buckets, MAX_COUNT - 5)
    huge.sum_ns = MAX_VALUE_NS * (MAX_COUNT - 5)
    usual = Histogram.of_ns([10**12] * 50)
    wires = [huge.to_wire(), usual.to_wire(), b"", usual.to_wire()]
    assert merged(wires, [0, 0, 0, 0], 1) == [Histogram.merged([huge, usual, usual])]
    running = RunningMerge()
    for wire in wires:
        running.add(wire)
    assert running.total() == Histogram.merged([huge, usual, usual])


def verdicts(bodies: list[bytes]) -> list[object]:
    found: list[object] = []
    for body in bodies:
        try:
            found.append(decode_report(body))
        except DataError as error:
            found.append(error.message)
    return found


def test_a_batch_of_damaged_reports_gets_the_verdicts_and_reasons_of_each_alone() -> None:
    rng = random.Random(7)
    whole = [encode_report(typical_report(n, samples=40)) for n in range(1, 6)] + [encode_report(small_report(9))]
    for _ in range(150):
        bodies = []
        for _ in range(6):
            body = bytearray(rng.choice(whole))
            for _ in range(rng.randint(0, 2)):
                position = rng.randrange(len(body))
                if rng.random() < 0.5:
                    body[position] = rng.choice([rng.randrange(256), 0xC1, 0x9F, 0xF5, 0xFB, 0x18, 0xA1, 0x80])
                else:
                    del body[position]
            bodies.append(bytes(body))
        together = decode_together(bodies)
        said = [each.message if isinstance(each, DataError) else each for each in together.reports]
        assert said == verdicts(bodies)
        some = [each for each in together.reports if isinstance(each, Report) and rng.random() < 0.7]
        assert together.latency_sums(some) == merged_one_by_one(some)


def merged_one_by_one(reports: list[Report]) -> dict[tuple[object, str], Histogram]:
    sums: dict[tuple[object, str], Histogram] = {}
    for report in reports:
        for stage, histogram in report.latency.items():
            group = model_of(report), stage
            sums[group] = sums.get(group, Histogram()).merge(histogram)
    return sums


def test_latency_that_only_the_slow_door_takes_is_in_the_sums() -> None:
    huge = Histogram.from_wire(Histogram.of_ns([MAX_VALUE_NS] * 5).to_wire())
    reports = [replace(small_report(n), latency={"invoke": huge, "total": Histogram()}) for n in (1, 2)]
    together = decode_together([encode_report(each) for each in (*reports, typical_report(3), small_report(4))])
    decoded = [each for each in together.reports if isinstance(each, Report)]
    assert together.latency_sums(decoded) == merged_one_by_one(decoded)
    assert together.latency_sums([]) == {}
    assert decode_together([]).latency_sums([]) == {}
