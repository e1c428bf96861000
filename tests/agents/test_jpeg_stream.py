"""JPEG pictures out of a stream of bytes, wherever it is cut and whatever is in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop_agent.sources.jpeg_stream import MAX_BETWEEN_BYTES, MAX_PICTURE_BYTES, JpegSplitter
from support import cameras


def split(data: bytes, pieces: Iterator[int]) -> tuple[list[bytes], int]:
    splitter, found, errors = JpegSplitter(), [], 0
    at = 0
    while at < len(data):
        step = next(pieces)
        splitter.feed(data[at : at + step])
        at += step
        while True:
            try:
                picture = splitter.take()
            except DataError:
                errors += 1
                continue
            if picture is None:
                break
            found.append(picture)
    return found, errors


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.binary(max_size=50))
def test_pictures_are_found_wherever_the_stream_is_cut(steps: list[int], between: bytes) -> None:
    between = between.replace(b"\xff", b"-")
    pictures = [cameras.jpeg(i) for i in range(4)]
    found, errors = split(between.join([b"head", *pictures, b""]), iter(steps * 10_000))
    assert (found, errors) == (pictures, 0)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_any_bytes_are_taken_without_a_crash(data: bytes) -> None:
    split(b"\xff\xd8\xff" + data, iter([64] * 100))


def test_a_stream_without_pictures_is_an_error_again_and_again() -> None:
    found, errors = split(b"\x89PNG and so on" * 60_000, iter([10_000] * 100))
    assert (found, errors) == ([], 900_000 // MAX_BETWEEN_BYTES)
    picture = cameras.jpeg(1)
    found, errors = split(bytes(MAX_BETWEEN_BYTES + 99) + picture, iter([10_000] * 100))
    assert (found, errors) == ([picture], 1)


def test_a_picture_inside_a_picture_stays_there_and_a_cut_one_is_an_error() -> None:
    inner, outer = cameras.jpeg(1), cameras.jpeg(2)
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    with_thumbnail = outer[:2] + segment + outer[2:]
    assert split(with_thumbnail + outer, iter([1 << 20])) == ([with_thumbnail, outer], 0)
    assert split(outer[:-40] + outer, iter([1 << 20])) == ([outer], 1)


def test_a_picture_without_end_does_not_fill_the_memory() -> None:
    splitter = JpegSplitter()
    splitter.feed(b"\xff\xd8\xff\xe0\x00\x04ab" + bytes(MAX_PICTURE_BYTES))
    with pytest.raises(DataError, match="more than 32 MiB"):
        splitter.take()
