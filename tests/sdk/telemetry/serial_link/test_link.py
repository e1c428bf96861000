"""A line in use: what is sent goes out whole and in turn, and a line that is gone says so."""

from __future__ import annotations

import os
import threading
import time
import tty
from contextlib import suppress

import pytest

from edgeloop.telemetry.serial_link.lines import DescriptorLine, open_descriptor
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.serial_link.outbox import BULK_CHUNK_BYTES
from edgeloop.telemetry.wire.framing import KIND_ACK, KIND_CHUNK, FrameReader, split_request

_PIECE_BYTES, _PIECE_S = 128, 0.002


class _PacedLine(DescriptorLine):
    """Takes bytes as a UART does: a few at a time."""

    def exchange(self, outgoing: bytes, patience_s: float) -> tuple[bytes, int]:
        if outgoing:
            time.sleep(_PIECE_S)
        return super().exchange(outgoing[:_PIECE_BYTES], patience_s)


def test_a_bulk_transfer_holds_up_an_acknowledgement_by_a_chunk_only() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    link = Link(_PacedLine(master, is_master=True), FrameReader(), stuck_after_s=5.0)
    for n in range(32):
        waiting = link.send_bulk(1, KIND_CHUNK, n, bytes(BULK_CHUNK_BYTES))
    assert waiting == 32
    thread = threading.Thread(target=link.serve, args=(lambda _frame: None,), daemon=True)
    thread.start()
    reader, received, asked_at, kinds = FrameReader(), 0, 0, []
    while KIND_ACK not in kinds:
        data = os.read(slave, 64)
        received += len(data)
        kinds += [frame.kind for frame in reader.feed(data)]
        if not asked_at and KIND_CHUNK in kinds:
            asked_at = received
            link.send(KIND_ACK, 7, b"ack")
    link.stop()
    thread.join()
    os.close(slave)
    assert received - asked_at < 3 * BULK_CHUNK_BYTES, "the chunk under way, what the kernel held, and itself"


def test_frames_of_both_ends_cross_on_one_line() -> None:
    """Both ends write 200 KiB at once: neither waits for the other to read first."""
    master, slave = os.openpty()
    tty.setraw(slave)
    got: dict[str, list[int]] = {"a": [], "b": []}
    links = {
        "a": Link(open_descriptor(master), FrameReader(), stuck_after_s=5.0),
        "b": Link(DescriptorLine(slave), FrameReader(), stuck_after_s=5.0),
    }
    for link in links.values():
        for n in range(20):
            link.send(KIND_ACK, n, bytes(10_000))

    def serve(name: str) -> None:
        with suppress(EOFError):  # the other one may end first
            links[name].serve(lambda frame: got[name].append(split_request(frame.payload)[0]))

    threads = [threading.Thread(target=serve, args=(name,), daemon=True) for name in links]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + 60
    while (len(got["a"]), len(got["b"])) != (20, 20) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    for link in links.values():
        link.stop()
    for thread in threads:
        thread.join()
    assert got == {"a": list(range(20)), "b": list(range(20))}


def test_a_line_that_takes_no_bytes_is_gone() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    link = Link(open_descriptor(master), FrameReader(), stuck_after_s=0.2)
    for n in range(20):
        link.send(KIND_ACK, n, bytes(10_000))
    with pytest.raises(TimeoutError):
        link.serve(lambda _frame: None)
    os.close(slave)


def test_a_wake_after_the_end_reaches_nobody() -> None:
    master, slave = os.openpty()
    line = open_descriptor(master)
    line.close()
    reading, writing = os.pipe()  # takes the numbers that the line had
    line.wake()
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    for descriptor in (slave, reading, writing):
        os.close(descriptor)
