"""The quick door for whole reports takes what the gate takes, reads it alike, and takes what devices send."""

from __future__ import annotations

import time
from dataclasses import replace

import cbor2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import COUNTERS, GAUGES, STAGES, Event, Report
from edgeloop.telemetry.wire import ordinary
from edgeloop.telemetry.wire.codec import encode_report
from edgeloop.telemetry.wire.latency import wires_of
from edgeloop.telemetry.wire.report_codec import decode_unchecked
from support.reports import small_report, typical_report

FULL = replace(
    typical_report(samples=40),
    counters={name: 3 ** (2 * n) for n, name in enumerate(COUNTERS)},
    gauges={**{name: float(7 * n - 20) for n, name in enumerate(GAUGES)}, "alert_fallback": 12.5, "alert_hot": 3.0},
    events=(Event("restart", 1_790_000_000.0, "worker died: signal 11"), Event("fallback", 1_790_000_001.0)),
    unsigned=True,
)
WHOLE = tuple(
    encode_report(each) for each in (FULL, typical_report(2), small_report(3), replace(FULL, device="ü" * 30))
)
BYTES = [
    0,
    1,
    0x17,
    0x18,
    0x1A,
    0x1B,
    0x3A,
    0x40,
    0x58,
    0x60,
    0x78,
    0x80,
    0x98,
    0xA1,
    0xB3,
    0xC1,
    0xF4,
    0xF5,
    0xFB,
    0xFF,
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(data) - 1))
        byte = draw(st.sampled_from(BYTES) | st.integers(0, 255))
        if draw(st.booleans()):
            data[position] = byte
        else:
            data[position : position + draw(st.integers(0, 1))] = bytes([byte]) if draw(st.booleans()) else b""
    return bytes(data)


def with_entry_twice(key: int, inner: bytes, again: bytes) -> bytes:
    """A report whose map `key` has an entry more, which it says, and which it had before."""
    body = encode_report(small_report(1))
    position = body.index(bytes([key, 0xA1]) + inner)
    return body[: position + 1] + b"\xa2" + body[position + 2 : position + 2 + len(inner)] + again + body[
        position + 2 + len(inner) :
    ]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(damaged())
@example(with_entry_twice(15, b"\x00\x01", b"\x00\x02"))
@example(WHOLE[2].replace(b"\xa1\x00\x01", b"\xa2\x00\x01", 1))
@example(b"\xb4" + WHOLE[0][1:])
def test_what_it_takes_the_gate_takes_and_reads_alike(data: bytes) -> None:
    report = ordinary.read(data)
    if report is not None:
        slow = decode_unchecked(data)
        assert as_read(report) == as_read(slow)


def as_read(report: Report) -> str:
    """Everything of it, with types and the order of entries; histograms as bytes, which nobody has looked at yet."""
    return repr(replace(report, latency={})) + repr(wires_of(report.latency))


def test_what_devices_send_takes_it() -> None:
    for body in WHOLE:
        assert ordinary.read(body) == decode_unchecked(body)


def test_an_entry_that_came_twice_is_not_for_it() -> None:
    assert ordinary.read(with_entry_twice(15, b"\x00\x01", b"\x01\x02")) is not None
    assert ordinary.read(with_entry_twice(15, b"\x00\x01", b"\x00\x02")) is None


def test_other_orders_newer_keys_and_long_names_are_left_to_the_gate() -> None:
    body = cbor2.loads(WHOLE[1])
    newer = encode_report(replace(typical_report(), unknown={40: "x"}))
    turned = cbor2.dumps(dict(reversed(body.items())))
    long = encode_report(replace(typical_report(), bundle="x" * 100))
    many = encode_report(replace(typical_report(), latency={f"s{n}": Histogram.of_ns([5]) for n in range(30)}))
    for data in (newer, turned, long, many, b"", b"\xa8" * 60_000):
        assert ordinary.read(data) is None


def test_a_stranger_cannot_make_it_try_for_long() -> None:
    """It knows at each item's first byte what follows, so it never tries the same bytes in many ways."""
    counters, latency = cbor2.dumps(dict.fromkeys(range(23), 1)), cbor2.dumps(dict.fromkeys(range(8), b"x" * 160))
    body = WHOLE[2][: WHOLE[2].index(b"\x0f\xa1")]
    data = body + b"\x0f" + counters + b"\x10" + latency + b"\x11" + counters + b"\x12\xff"
    ordinary.read(data)
    began = time.process_time()
    for _ in range(100):
        assert ordinary.read(data) is None
    assert time.process_time() - began < 10


def test_the_stages_of_the_wire_are_those_it_names() -> None:
    report = ordinary.read(WHOLE[1])
    assert report is not None
    assert tuple(report.latency) == STAGES
