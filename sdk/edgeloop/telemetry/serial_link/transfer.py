"""A file going out on a link: fills what prompt frames leave free of the line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeloop.telemetry.serial_link.chunks import (
    CHUNK_BYTES,
    RECEIVING,
    WINDOW_CHUNKS,
    Arrived,
    chunk_count,
    decode_arrived,
    encode_chunk,
)
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.serial_link.sending import Sending
from edgeloop.telemetry.wire.framing import KIND_CHUNK

_QUEUED_CHUNKS = 3
"""Wait behind the one that is being written: the line never runs dry, and what is prompt goes before them."""
_WINDOW_S = 3.0
"""Of the line may be under way: an acknowledgement can stand behind a batch, which takes up to two seconds."""
_LEAST_WINDOW = 16
_OVERHEAD_BYTES = 19  # kind, request id, number, CRC-32, COBS, zero


@dataclass(frozen=True)
class FileToSend:
    """read: so many bytes from an offset."""

    size: int
    read: Callable[[int, int], bytes]

    def chunk(self, number: int) -> bytes:
        """What a chunk's frame carries."""
        return encode_chunk(number, self.read(number * CHUNK_BYTES, CHUNK_BYTES))


def sending_of(file: FileToSend, arrived: Arrived, bytes_per_s: int) -> Sending:
    """With the window that keeps a line of this speed full."""
    window = int(_WINDOW_S * bytes_per_s) // (CHUNK_BYTES + _OVERHEAD_BYTES)
    window = min(max(window, _LEAST_WINDOW), WINDOW_CHUNKS)
    quiet_s = 1.0 + 1.5 * window * (CHUNK_BYTES + _OVERHEAD_BYTES) / bytes_per_s
    return Sending(chunk_count(file.size), arrived, window=window, quiet_s=quiet_s)


class FileTransfer:
    """`fill` and `acknowledged` are for the link's thread, the rest for any."""

    def __init__(self, transfer_id: int, file: FileToSend, arrived: Arrived, bytes_per_s: int) -> None:
        """arrived: what the device has of it."""
        self.id = transfer_id
        self.news = threading.Event()
        self.arrived = arrived
        self._file = file
        self._sending = sending_of(file, arrived, bytes_per_s)

    @property
    def is_going_on(self) -> bool:
        return self.arrived.state == RECEIVING

    @property
    def arrived_chunks(self) -> int:
        return self._sending.arrived_chunks

    @property
    def sent_again(self) -> int:
        """Chunks that went out more than once."""
        return self._sending.again

    def fill(self, link: Link) -> None:
        """Hand the link what it has room for."""
        while self.is_going_on and link.bulk_waiting(self.id) < _QUEUED_CHUNKS:
            number = self._sending.next(time.monotonic())
            if number is None:
                return
            link.send_bulk(self.id, KIND_CHUNK, self.id, self._file.chunk(number))

    def acknowledged(self, transfer_id: int, body: bytes) -> None:
        """A KIND_CHUNK_ACK frame, of this transfer or another one. DataError."""
        if transfer_id == self.id:
            self.arrived = decode_arrived(body)
            self._sending.arrived(self.arrived, time.monotonic())
            self.news.set()
