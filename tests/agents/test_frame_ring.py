"""Frames between processes: the newest, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError, UsageError
from edgeloop_agent.sources import Wanted
from edgeloop_agent.sources.shared import RingSource, Sharing
from edgeloop_agent.worker.frame_ring import MAX_FRAME_BYTES, FrameRing

WANTED = Wanted(InputSpec(kind="image", size=(8, 8)), (1, 8, 8, 3), np.dtype("uint8"), 0.0, 255.0)


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    made = FrameRing()
    yield made
    made.close()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(192, dtype=np.uint8).reshape(8, 8, 3),
        np.float32(1.5) * np.ones((3, 4, 2, 1), np.float32),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.zeros(0, np.int8),
        np.array(7.0),
    ],
)
def test_a_frame_comes_out_as_it_went_in(ring: FrameRing, array: np.ndarray) -> None:
    assert ring.take() is None
    ring.put(array, "künstlich/1.png", 42)
    taken = ring.take()
    assert taken is not None
    assert (taken.number, taken.name, taken.captured_ns, taken.array.dtype) == (1, "künstlich/1.png", 42, array.dtype)
    np.testing.assert_array_equal(taken.array, array)


def test_what_no_slot_holds_is_refused(ring: FrameRing) -> None:
    with pytest.raises(DataError, match="too large to be shared"):
        ring.put(np.zeros(MAX_FRAME_BYTES + 1, np.uint8), "big", 0)
    with pytest.raises(DataError, match="too large to be shared"):
        ring.put(np.zeros((1, 1, 1, 1, 1), np.uint8), "deep", 0)
    assert ring.newest == 0


def test_memory_is_taken_only_by_what_was_put(ring: FrameRing) -> None:
    for _ in range(5):
        ring.put(np.zeros((64, 64, 3), np.uint8), "x", 0)
    assert os.fstat(ring.fd).st_blocks * 512 < 200_000


def test_a_reader_takes_the_newest_and_counts_what_it_missed(ring: FrameRing) -> None:
    ring.put(np.zeros((8, 8, 3), np.uint8), "before", 0)
    source = RingSource(ring, WANTED)
    assert not source.wait(0.01)
    for i in range(4):
        ring.put(np.full((8, 8, 3), i, np.uint8), f"{i}", 10 + i)
    assert source.wait(0)
    item = source.read()
    assert item is not None
    assert (item[1], int(item[0][0, 0, 0]), source.dropped, source.captured_ns) == ("3", 3, 3, 13)
    ring.put(np.zeros((8, 8), np.uint8), "gray", 0)
    with pytest.raises(DataError, match="takes gray pictures, this one color"):
        source.read()
    ring.end()
    assert source.wait(0)
    assert source.read() is None


def test_a_source_that_is_shared_gives_its_own_model_what_it_read(ring: FrameRing) -> None:
    class Two:
        def __init__(self) -> None:
            self.items = iter([(np.ones((8, 8, 3), np.uint8), "a"), ({"x": np.ones(1)}, "b")])

        def read(self) -> tuple[object, str] | None:
            return next(self.items)

        def close(self) -> None: ...

    source = Sharing(Two(), ring)
    item = source.read()
    taken = ring.take()
    assert item is not None and taken is not None
    np.testing.assert_array_equal(item[0], taken.array)
    with pytest.raises(UsageError, match="several inputs cannot be shared"):
        source.read()


def test_no_frame_is_ever_half_of_another(ring: FrameRing) -> None:
    """A writer as fast as it can in another process: whatever is taken is one value all over."""
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_write, args=(ring,), daemon=True)
    writer.start()
    taken, numbers, until_s = 0, [], time.monotonic() + 60
    while taken < 200 and time.monotonic() < until_s:
        frame = ring.take()
        if frame is not None:
            taken += 1
            numbers.append(frame.number)
            assert (frame.array == frame.array.flat[0]).all()
            assert int(frame.array.flat[0]) == frame.number % 251
    writer.kill()
    writer.join()
    assert taken == 200
    assert numbers == sorted(numbers)


def _write(ring: FrameRing) -> None:
    while True:
        ring.put(np.full((120, 160, 3), (ring.newest + 1) % 251, np.uint8), "x", 0)
