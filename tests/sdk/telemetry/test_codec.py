"""Reports, batches and acknowledgements on the wire: small, kept whole, safe to read from a stranger."""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.clock import ReportsSentNow, SentAt
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import COUNTERS, GAUGES, MAX_EVENTS, STAGES, Event, Report
from edgeloop.telemetry.wire.codec import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_REPORT_BYTES,
    UNREADABLE_BOOT,
    Ack,
    Batch,
    Rejected,
    accepted_ranges,
    decode_ack,
    decode_batch,
    decode_report,
    encode_ack,
    encode_batch,
    encode_report,
)
from support.reports import BOOT, OTHER_BOOT, small_body, small_report, typical_report

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
LABELS = NAMES.filter(lambda name: not name.startswith("#"))
BOOTS = st.binary(min_size=8, max_size=8).map(bytes.hex)
TIMES = st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers(0, 99), inner, max_size=3),
    max_leaves=6,
)
REPORTS = st.builds(
    Report,
    device=NAMES,
    boot=BOOTS,
    seq=st.integers(1, 2**63 - 1),
    time_s=TIMES,
    uptime_s=TIMES,
    period_s=TIMES,
    bundle=NAMES | st.just(""),
    version=st.integers(0, 2**40),
    variant=NAMES,
    delegate_asked=NAMES,
    delegate_ran=NAMES | st.just(""),
    delegated_ops=st.integers(0, 50),
    total_ops=st.integers(50, 100),
    runtime=NAMES,
    unsigned=st.booleans(),
    counters=st.dictionaries(st.sampled_from(COUNTERS) | LABELS, st.integers(0, 2**63 - 1), max_size=8),
    latency=st.dictionaries(
        st.sampled_from(STAGES) | LABELS, st.lists(st.integers(0, 10**10), max_size=9).map(Histogram.of_ns), max_size=6
    ),
    gauges=st.dictionaries(
        st.sampled_from(GAUGES).filter(lambda name: not name.endswith("_bytes")) | LABELS,
        st.integers(-(10**6), 10**6).map(float),
        max_size=6,
    ),
    events=st.lists(st.builds(Event, kind=NAMES, time_s=TIMES, detail=NAMES), max_size=3).map(tuple),
    unknown=st.dictionaries(st.integers(19, 2**40), PLAIN, max_size=3),
)


def test_a_report_with_five_stages_of_600_samples_is_at_most_600_bytes() -> None:
    """The acceptance figure: on the wire it is one frame's 11 to 13 bytes more over serial, 4 more in a batch."""
    sizes = [len(encode_report(typical_report(seq))) for seq in range(1, 21)]
    assert max(sizes) <= 600, f"bytes of 20 reports with five stages of 600 samples: {min(sizes)} to {max(sizes)}"
    assert min(sizes) > 300, "a report this small has lost something"


def test_a_typical_report_comes_back_as_it_was() -> None:
    report = typical_report()
    assert decode_report(encode_report(report)) == report
    assert report.delegated_share == pytest.approx(14 / 15)


@given(REPORTS)
def test_reports_round_trip(report: Report) -> None:
    body = encode_report(report)
    again = decode_report(body)
    assert again == report
    assert encode_report(again) == body


def test_values_are_quantized_as_documented_and_only_so() -> None:
    report = replace(
        small_report(1),
        time_s=1_790_000_000.123456,
        gauges={"temperature_c": 61.26, "rss_bytes": 61_234_567.0, "load_1m": math.nan, "own_ratio": 0.1234567},
    )
    again = decode_report(encode_report(report))
    assert again.time_s == 1_790_000_000.123
    assert again.gauges == {"temperature_c": 61.3, "rss_bytes": 59799.0 * 1024, "own_ratio": 0.1234567}


def test_what_a_newer_version_added_is_kept_and_sent_on() -> None:
    """An unknown key, an unknown code of a counter, a stage and a gauge, and an unknown kind of event."""
    body = cbor2.loads(encode_report(small_report(1)))
    body[40] = {"new": [1, 2.5, None]}
    body[15][77] = 5
    body[16][9] = Histogram.of_ms([1.0]).to_wire()
    body[17] = {99: -3}
    body[18] = [["teleported", 0, "to another board"]]
    report = decode_report(cbor2.dumps(body))
    assert report.unknown == {40: {"new": [1, 2.5, None]}}
    assert report.counters["#77"] == 5
    assert report.latency["#9"].count == 1
    assert report.gauges == {"#99": -3.0}
    assert report.events[0].kind == "teleported"
    assert cbor2.loads(encode_report(report)) == body


def test_a_newer_breaking_version_is_refused_by_name() -> None:
    body = cbor2.loads(small_body(1))
    body[0] = 2
    with pytest.raises(DataError, match="version 2, this edgeloop reads up to 1"):
        decode_report(cbor2.dumps(body))


def test_free_text_of_an_event_becomes_one_short_printable_line() -> None:
    report = replace(small_report(1), events=(Event("restart", 1.0, "a\nb\x1b[31m\u202e c" + "x" * 999),))
    detail = decode_report(encode_report(report)).events[0].detail
    assert detail.startswith("a b [31m c")
    assert len(detail) <= 240
    assert detail.isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": ""},
        {"device": "a\nb"},
        {"device": "x" * 121},
        {"bundle": "\u202eevil"},
        {"boot": "ABCDEF0011223344"},
        {"boot": "12"},
        {"seq": 0},
        {"seq": 2**63},
        {"seq": True},
        {"time_s": math.inf},
        {"time_s": -1.0},
        {"period_s": math.nan},
        {"delegated_ops": 3, "total_ops": 2},
        {"counters": {"frames": -1}},
        {"counters": {"": 1}},
        {"counters": {"#0": 1}},
        {"counters": {"#x": 1}},
        {"counters": {f"c{n}": 1 for n in range(65)}},
        {"gauges": {"temperature_c": 1e300}},
        {"events": tuple(Event("e", 1.0) for _ in range(MAX_EVENTS + 1))},
        {"unknown": {5: 1}},
        {"unknown": {50: math.nan}},
        {"unknown": {50: b"x" * MAX_REPORT_BYTES}},
    ],
    ids=str,
)
def test_a_report_nobody_would_take_is_not_made(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError):
        encode_report(replace(small_report(1), **wrong))  # type: ignore[arg-type]


def _with(key: int, value: object) -> bytes:
    body = cbor2.loads(small_body(1))
    body[key] = value
    return cbor2.dumps(body)


HOSTILE = {
    "empty": b"",
    "not a map": cbor2.dumps([1, 2]),
    "no version": cbor2.dumps({1: "pi"}),
    "version true": cbor2.dumps({0: True}),
    "left over": small_body(1) + b"\x00",
    "cut short": small_body(1)[:-1],
    "too large": cbor2.dumps({0: 1, 50: b"x" * MAX_REPORT_BYTES}),
    "a key twice": b"\xa2\x00\x01\x00\x01",
    "a key twice, once padded": b"\xa2\x00\x01\x18\x00\x01",
    "an array of 2**60": b"\x9b" + struct.pack(">Q", 2**60),
    "a map of 2**31": b"\xba" + struct.pack(">I", 2**31),
    "text of 2**62 bytes": b"\x7b" + struct.pack(">Q", 2**62),
    "indefinite array": b"\x9f\x01\xff",
    "indefinite text": b"\x7f\x61a\xff",
    "deep nesting": b"\x81" * 60_000 + b"\x01",
    "deep maps": b"\xa1\x00" * 30_000 + b"\x01",
    "many items": b"\x99\x75\x30" + b"\x00" * 30_000,
    "a date": b"\xc1\x1a\x51\x4b\x67\xb0",
    "a bignum": b"\xc2\x49" + b"\xff" * 9,
    "a shared reference": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a regular expression": b"\xd8\x23\x64(a+)",
    "undefined": b"\xf7",
    "a simple value": b"\xf8\x20",
    "a break alone": b"\xff",
    "nan": _with(50, math.nan),
    "infinity": _with(50, math.inf),
    "half nan": b"\xa2\x00\x01\x05\xf9\x7e\x00",
    "bad utf-8": b"\xa2\x00\x01\x01\x62\xff\xfe",
    "float key": cbor2.dumps({0: 1, 1.5: 2}),
    "array key": b"\xa1\x81\x01\x02",
    "text key": cbor2.dumps({0: 1, "device": "x"}),
    "negative key": cbor2.dumps({0: 1, -1: 2}),
    "device missing": cbor2.dumps({0: 1, 2: bytes(8), 3: 1, 4: 0}),
    "device a number": _with(1, 5),
    "device with a newline": _with(1, "a\nb"),
    "boot too short": _with(2, bytes(7)),
    "boot as text": _with(2, "0" * 16),
    "seq zero": _with(3, 0),
    "seq huge": _with(3, 2**63),
    "seq a float": _with(3, 1.0),
    "time negative": _with(4, -1),
    "time after 9999": _with(4, 2**60),
    "ops three": _with(12, [1, 2, 3]),
    "ops impossible": _with(12, [3, 2]),
    "unsigned a number": _with(14, 1),
    "counters a list": _with(15, [1]),
    "counter negative": _with(15, {0: -1}),
    "counter true": _with(15, {0: True}),
    "counter by its long name": _with(15, {"frames": 1}),
    "counter with a code as its name": _with(15, {"#77": 1}),
    "counter with a control character": _with(15, {"a\x00": 1}),
    "counters too many": _with(15, {f"c{n}": 1 for n in range(65)}),
    "histogram as text": _with(16, {0: "x"}),
    "histogram garbage": _with(16, {0: b"\x01\x02\x03"}),
    "gauge as text": _with(17, {0: "hot"}),
    "gauge a fraction of a step": _with(17, {0: 1.5}),
    "gauge out of range": _with(17, {0: 2**60}),
    "events too many": _with(18, [["e", 0, ""]] * (MAX_EVENTS + 1)),
    "event too short": _with(18, [["e"]]),
    "event far in the future": _with(18, [["e", -(2**62), ""]]),
    "unknown too many": cbor2.dumps({**cbor2.loads(small_body(1)), **{100 + n: 0 for n in range(65)}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_reports_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(DataError) as caught:
        decode_report(HOSTILE[name])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("decode", [decode_report, decode_batch, decode_ack])
@given(data=st.binary(max_size=300))
def test_strangers_bytes_raise_nothing_but_data_errors(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(DataError):
        decode(data)


@settings(max_examples=400)
@given(st.data())
def test_damaged_reports_are_refused_or_still_reports(data: st.DataObject) -> None:
    body = bytearray(encode_report(typical_report()))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = decode_report(bytes(body))
    except DataError:
        return
    assert decode_report(encode_report(report)) == report


@given(PLAIN)
def test_the_gate_lets_through_whatever_our_encoder_writes(value: object) -> None:
    report = replace(small_report(1), unknown={50: value})
    try:
        body = encode_report(report)
    except DataError:  # an integer of more than 64 bits
        return
    assert decode_report(body).unknown == {50: value}


def test_a_batch_keeps_its_reports_apart() -> None:
    bodies = [small_body(1), b"not a report", small_body(2)]
    assert decode_batch(encode_batch(bodies)) == Batch(tuple(bodies))


def test_a_batch_carries_answers_with_or_without_reports() -> None:
    answers = (b"\xa0", b"not CBOR at all")
    assert decode_batch(encode_batch([small_body(1)], answers)) == Batch((small_body(1),), answers)
    assert decode_batch(encode_batch([], answers)) == Batch((), answers)
    with pytest.raises(DataError, match="up to 16 answers"):
        encode_batch([small_body(1)], [b"x"] * 17)
    with pytest.raises(DataError, match="answer is not"):
        decode_batch(cbor2.dumps({0: 1, 1: [b"x"], 2: ["x"]}))


def test_batches_are_bounded_both_ways() -> None:
    with pytest.raises(DataError, match="1 to 200"):
        encode_batch([b"x"] * (MAX_BATCH + 1))
    with pytest.raises(DataError, match="1 to 200"):
        encode_batch([])
    with pytest.raises(DataError, match="larger"):
        encode_batch([b"x" * MAX_REPORT_BYTES] * 20)
    with pytest.raises(DataError, match="1 to 200"):
        decode_batch(cbor2.dumps({0: 1, 1: [b"x"] * (MAX_BATCH + 1)}))
    with pytest.raises(DataError, match="larger"):
        decode_batch(bytes(MAX_BATCH_BYTES + 1))
    for wrong in ({0: 1}, {0: 1, 1: []}, {0: 1, 1: ["x"]}, {0: 1, 1: {}}, {1: [b"x"]}, {0: 2, 1: [b"x"]}):
        with pytest.raises(DataError):
            decode_batch(cbor2.dumps(wrong))


def test_an_acknowledgement_round_trips() -> None:
    ack = Ack(((BOOT, 1, 7), (OTHER_BOOT, 3, 3)), (Rejected(BOOT, 8, "no such device"),), (b"\xa0", b"\x01"))
    assert decode_ack(encode_ack(ack)) == ack
    assert decode_ack(encode_ack(Ack())) == Ack()


def test_a_report_without_a_readable_key_is_rejected_by_its_checksum() -> None:
    rejected = Rejected.unreadable(b"garbage", "not\x07CBOR")
    assert (rejected.boot, rejected.seq) == (UNREADABLE_BOOT, zlib.crc32(b"garbage"))
    assert decode_ack(encode_ack(Ack(rejected=(rejected,)))).rejected[0].reason == "not CBOR"


@pytest.mark.parametrize(
    "body",
    [
        {0: 1, 1: [[bytes(8), 5, 4]]},
        {0: 1, 1: [[bytes(8), 1, 2**63]]},
        {0: 1, 1: [[bytes(8), -1, 1]]},
        {0: 1, 1: [[bytes(7), 1, 1]]},
        {0: 1, 1: [[bytes(8), 1]]},
        {0: 1, 1: [[bytes(8), 1, 1]] * 201},
        {0: 1, 2: [[bytes(8), 1, 5]]},
        {0: 1, 3: [b""] * 17},
        {0: 1, 3: [0]},
        {0: 1, 3: 5},
        {1: []},
    ],
    ids=str,
)
def test_wrong_acknowledgements_are_refused(body: dict[int, object]) -> None:
    with pytest.raises(DataError):
        decode_ack(cbor2.dumps(body))


@given(st.lists(st.tuples(st.sampled_from([BOOT, OTHER_BOOT]), st.integers(1, 30)), max_size=40))
def test_accepted_ranges_cover_exactly_what_was_accepted(keys: list[tuple[str, int]]) -> None:
    ranges = accepted_ranges(keys)
    covered = [(boot, seq) for boot, first, last in ranges for seq in range(first, last + 1)]
    assert covered == sorted(set(keys))
    assert all(a[0] != b[0] or a[2] + 1 < b[1] for a, b in pairwise(ranges)), "ranges touch"


def test_the_clock_of_the_far_past_and_future_is_only_a_number() -> None:
    """A board without a battery starts in 1970."""
    for time_s in (0.0, time.time(), 4_102_444_800.0):
        assert decode_report(encode_report(replace(small_report(1), time_s=time_s))).time_s == pytest.approx(time_s)


def test_a_batch_tells_when_it_was_sent() -> None:
    sent = SentAt(BOOT, 1_790_000_000.125, 12.5)
    assert decode_batch(encode_batch(ReportsSentNow.of([small_body(1)], sent))) == Batch((small_body(1),), sent=sent)
    for nonsense in (1, [1, 2, 3], [b"x" * 8, -1, 2], [b"x" * 8, 1, 2, 3], [b"x" * 8, 1, 1 << 62]):
        with pytest.raises(DataError):
            decode_batch(cbor2.dumps({0: 1, 1: [small_body(1)], 3: nonsense}))
