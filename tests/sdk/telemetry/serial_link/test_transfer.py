"""A file in chunks: what is said of it on the line, and which chunk goes out next on a line that loses some."""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.serial_link.chunks import (
    CHUNK_BYTES,
    COMPLETE,
    WINDOW_CHUNKS,
    Arrived,
    ArrivedChunks,
    chunk_count,
    decode_arrived,
    decode_chunk,
    encode_arrived,
    encode_chunk,
)
from edgeloop.telemetry.serial_link.sending import Sending


def test_chunks_and_acknowledgements_come_back_as_they_were() -> None:
    assert decode_chunk(encode_chunk(70_000, b"abc")) == (70_000, b"abc")
    arrived = Arrived(5, frozenset({6, 9, 5 + WINDOW_CHUNKS - 1}))
    assert decode_arrived(encode_arrived(arrived)) == arrived
    assert [chunk_count(size) for size in (1, CHUNK_BYTES, CHUNK_BYTES + 1)] == [1, 1, 2]


@given(st.binary(max_size=CHUNK_BYTES + 10))
def test_hostile_bytes_are_a_data_error_or_nothing(body: bytes) -> None:
    with suppress(DataError):
        decode_chunk(body)
    with suppress(DataError):
        assert len(decode_arrived(body).beyond) <= WINDOW_CHUNKS


def test_what_is_far_ahead_or_beyond_the_end_is_not_taken() -> None:
    chunks = ArrivedChunks(2000)
    assert chunks.takes(WINDOW_CHUNKS - 1)
    assert not chunks.takes(WINDOW_CHUNKS)
    assert not ArrivedChunks(3).takes(3)


class Line:
    """Keeps the order, loses what `rng` says; `flight` chunks are under way."""

    def __init__(self, total: int, loss: float, seed: int, *, flight: int = 5, arrived: ArrivedChunks | None = None):
        self.there = arrived or ArrivedChunks(total)
        self.sending = Sending(total, self.there.arrived(), window=20, quiet_s=50.0)
        self.sent: list[int] = []
        self._rng, self._loss, self._flight = random.Random(seed), loss, flight

    def run(self, turns: int = 100_000) -> bool:
        """Whether all has arrived."""
        out: deque[int | None] = deque([None] * self._flight)
        back: deque[Arrived | None] = deque([None] * self._flight)
        for turn in range(turns):
            number = self.sending.next(float(turn))
            if number is not None:
                self.sent.append(number)
            out.append(None if self._rng.random() < self._loss else number)
            arriving = out.popleft()
            if arriving is not None and self.there.takes(arriving):
                self.there.add(arriving)
            is_lost = arriving is None or self._rng.random() < self._loss
            back.append(None if is_lost else self.there.arrived())
            answer = back.popleft()
            if answer is not None:
                self.sending.arrived(answer, float(turn))
            if self.sending.is_done:
                return True
        return False


def test_on_a_good_line_each_chunk_goes_once_and_the_line_is_never_idle() -> None:
    line = Line(300, 0.0, 1)
    assert line.run(turns=300 + 12)
    assert line.sent == list(range(300))
    assert line.sending.again == 0


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 400), loss=st.floats(0.0, 0.4), seed=st.integers(0, 1000), flight=st.integers(1, 30))
def test_whatever_is_lost_all_of_it_arrives(total: int, loss: float, seed: int, flight: int) -> None:
    line = Line(total, loss, seed, flight=flight)
    assert line.run()
    assert line.there.is_complete


def test_a_lost_chunk_goes_again_alone() -> None:
    sending = Sending(10, Arrived(), window=8, quiet_s=60.0)
    assert [sending.next(0.0) for _ in range(9)] == [*range(8), None]
    sending.arrived(Arrived(2, frozenset({3, 4})), 1.0)
    assert [sending.next(1.0) for _ in range(4)] == [2, 8, 9, None]
    sending.arrived(Arrived(10, frozenset(), COMPLETE), 2.0)
    assert sending.is_done


def test_what_has_arrived_before_is_not_sent(  # resumed
) -> None:
    there = ArrivedChunks(100)
    for number in (*range(40), 42, 45):
        there.add(number)
    line = Line(100, 0.0, 1, arrived=there)
    assert line.run()
    assert line.sent == [40, 41, 43, 44, *range(46, 100)]


def test_after_silence_everything_under_way_goes_again() -> None:
    sending = Sending(3, Arrived(), window=8, quiet_s=5.0)
    assert [sending.next(0.0) for _ in range(4)] == [0, 1, 2, None]
    assert sending.next(4.9) is None
    assert [sending.next(5.1) for _ in range(4)] == [0, 1, 2, None]
    assert sending.again == 3


@pytest.mark.parametrize("body", [b"", b"\x00\x00\x00", b"\x00" * 4 + b"x" * (CHUNK_BYTES + 1)])
def test_no_chunk(body: bytes) -> None:
    with pytest.raises(DataError):
        decode_chunk(body)
