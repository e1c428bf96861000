"""Frames over a line that flips, loses and doubles bytes: what arrives is what was sent, or nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.wire.codec import encode_report
from edgeloop.telemetry.wire.framing import (
    KIND_BATCH,
    MAX_PAYLOAD_BYTES,
    Frame,
    FrameReader,
    cobs_decode,
    cobs_encode,
    encode_frame,
    encode_request,
    split_request,
)
from support.noise import noisy
from support.reports import typical_report

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=600)), max_size=6)


@given(st.binary(max_size=2000) | st.integers(0, 1100).map(lambda n: b"\x01" * n) | st.integers(0, 600).map(bytes))
def test_cobs_leaves_no_zero_and_costs_one_byte_in_254(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + len(data) // 254 + 1
    assert cobs_decode(encoded) == data


def test_cobs_agrees_with_the_published_examples() -> None:
    """Cheshire and Baker's code table; a full last block may end with or without a 01."""
    assert cobs_encode(b"\x00") == b"\x01\x01"
    assert cobs_encode(b"\x00\x00") == b"\x01\x01\x01"
    assert cobs_encode(b"\x11\x22\x00\x33") == b"\x03\x11\x22\x02\x33"
    assert cobs_encode(b"\x11\x00\x00\x00") == b"\x02\x11\x01\x01\x01"
    full = bytes(range(1, 255))
    assert cobs_decode(b"\xff" + full) == cobs_decode(b"\xff" + full + b"\x01") == full
    assert cobs_decode(b"\x05\x11") is None


@given(FRAMES, st.data())
def test_frames_come_through_in_pieces_of_any_size(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    reader, received = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, 400))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == [Frame(kind, payload) for kind, payload in frames]
    assert reader.bad == 0


@given(st.binary(max_size=300), FRAMES)
def test_after_garbage_the_next_frames_are_found(garbage: bytes, frames: list[tuple[int, bytes]]) -> None:
    reader = FrameReader()
    assert reader.feed(garbage + b"\x00") == []
    received = reader.feed(b"".join(encode_frame(kind, payload) for kind, payload in frames))
    assert received == [Frame(kind, payload) for kind, payload in frames]


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    FrameReader().feed(data)


def test_nothing_wrong_is_accepted_in_20000_frames_with_faults_of_one_in_a_thousand_bytes() -> None:
    """Each frame is unique, so a frame that was not sent is seen at once."""
    rng = random.Random(20_000)
    base = encode_report(typical_report())[:187]  # the size at which the notes measured 82 % to survive
    reader = FrameReader()
    sent, accepted, wrong, faults, stranger = 20_000, 0, 0, 0, 0
    for number in range(sent):
        payload = number.to_bytes(4, "big") + base
        damaged, hits = noisy(encode_frame(KIND_BATCH, payload), 1e-3, rng)
        faults += hits
        for frame in reader.feed(damaged):
            accepted += 1
            arrived = int.from_bytes(frame.payload[:4], "big")
            wrong += frame.kind != KIND_BATCH or frame.payload[4:] != base or arrived > number
            stranger += arrived != number
    assert faults > 3000, "the line was too good to show anything"
    assert wrong == 0, f"{wrong} of {accepted} accepted frames were not what was sent"
    assert stranger <= faults, "frames arrived out of place"
    assert 0.75 * sent < accepted < 0.9 * sent
    assert reader.bad > 0


def test_a_stranger_who_sends_no_zero_does_not_fill_the_memory() -> None:
    reader = FrameReader()
    for _ in range(40):
        assert reader.feed(b"\x01" * 100_000) == []
        assert reader.buffered_bytes <= MAX_PAYLOAD_BYTES * 1.01
    assert reader.bad == 1
    assert reader.feed(b"\x00" + encode_frame(1, b"back again")) == [Frame(1, b"back again")]


def test_a_complete_frame_that_is_too_long_is_dropped() -> None:
    reader = FrameReader(max_encoded_bytes=100)
    assert reader.feed(b"\x01" * 200 + b"\x00" + encode_frame(2, b"ok")) == [Frame(2, b"ok")]
    assert reader.feed(encode_frame(2, b"ok") + b"\x01" * 200 + b"\x00") == [Frame(2, b"ok")]
    assert reader.bad == 2


def test_the_largest_payload_fits_and_a_larger_one_is_refused() -> None:
    payload = random.Random(1).randbytes(MAX_PAYLOAD_BYTES)
    assert FrameReader().feed(encode_frame(1, payload)) == [Frame(1, payload)]
    with pytest.raises(DataError, match="larger"):
        encode_frame(1, payload + b"x")
    with pytest.raises(DataError, match="kind"):
        encode_frame(256, b"")


def test_request_ids_travel_in_front() -> None:
    (frame,) = FrameReader().feed(encode_request(KIND_BATCH, 2**32 + 7, b"body"))
    assert split_request(frame.payload) == (7, b"body")
    with pytest.raises(DataError):
        split_request(b"abc")
