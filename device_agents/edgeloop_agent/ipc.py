"""How supervisor and worker talk: a socket with length-prefixed CBOR messages, and one shared page of counters.

The page survives the worker, so a worker that is killed between two messages still leaves exact counts behind, and the
next one goes on after the frame that was in its hands. Messages are dicts with a "kind":

    supervisor -> worker   start {bundle, variant, delegate, source, ...}
    worker -> supervisor   ready {ran_on, ...}  stats {latency, rss_bytes}  event {event, detail}
                           fault {blame, exit_code, message, hint}  done {reason}
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import cbor2

from edgeloop.errors import DeviceError
from edgeloop_agent.reports.tally import Counts

MAX_MESSAGE_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")

# Slots of the page, unsigned 64-bit each, written by the worker alone.
BEGUN = 0  # frames taken from the source, unreadable ones too
INFERRED = 1  # inferences that gave a result
ERRORS = 2  # frames that failed their checks
BUSY_SINCE_NS = 3  # CLOCK_MONOTONIC when work on a frame began, reading it included; 0 between frames
SINK_ERRORS = 4  # result lines that could not be written
SINK_LINES = 5  # result lines that were written
GATED = 6  # frames that were meant not to be inferred on
REUSED = 7  # those of them that got an earlier frame's result
DROPPED = 8  # frames of a live source that nobody took, because a newer one came
INVOKING_SINCE_NS = 9  # the same clock when the model's invoke began; 0 outside of it
TELLING_SINCE_NS = 10  # the same clock when sinks that run other code (a user's function) got a result; 0 outside of it
_SLOTS = 11


class Slots(Protocol):
    """The page as the loop sees it."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def counts_of(slots: Slots) -> Counts:
    """The slots as a value."""
    order = (BEGUN, INFERRED, ERRORS, SINK_ERRORS, SINK_LINES, GATED, REUSED, DROPPED)
    return Counts(*[slots[index] for index in order])


def last_counts_of(slots: Slots) -> Counts:
    """The slots of a dead worker. One that died in the middle of reading a frame has begun this frame, too: the next
    worker must not meet it again, should it be what kills workers."""
    counts = counts_of(slots)
    died_reading = slots[BUSY_SINCE_NS] and not counts.in_flight
    return replace(counts, begun=counts.begun + 1) if died_reading else counts


class Page:
    """The shared counters, as an indexable `slots` of ints. Made by the supervisor, mapped again by the worker."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.memfd_create("edgeloop-progress") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, mmap.PAGESIZE)
        self._map = mmap.mmap(self.fd, mmap.PAGESIZE)
        self.slots = memoryview(self._map).cast("Q")[:_SLOTS]

    def close(self) -> None:
        self.slots.release()
        os.close(self.fd)


class Channel:
    """One end of the socket. `send` may be called from several threads; `receive` from one."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError when the other side is gone."""
        body = cbor2.dumps(dict(message))
        with self._lock:
            self.socket.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> list[dict[str, Any]] | None:
        """Every message that is complete after one read; blocks if nothing is there. None: the other side closed.

        Raises DeviceError for bytes that are not messages.
        """
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            return None
        if not data:
            return None
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE_BYTES:
                raise DeviceError(f"the worker sent a message of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages

    def close(self) -> None:
        self.socket.close()


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = cbor2.loads(body)
    except Exception as error:  # cbor2 raises many kinds for broken input
        raise DeviceError(f"the worker sent something that is not CBOR: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise DeviceError("the worker sent a message without a kind")
    return message
