"""A file on its way over a line: chunks by number, and which of them have arrived. Values and bytes, no I/O.

    chunk             request id: of the transfer; number, 4 bytes big-endian; up to CHUNK_BYTES of the file
    acknowledgement   request id: of the transfer; state, 1 byte; the first number that is missing, 4 bytes; a bit for
                      each chunk from there on, 1 where it has arrived, least significant first

Chunks may arrive in any order, within WINDOW_CHUNKS of the first that is missing: an acknowledgement says it all.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from edgeloop.errors import DataError
from edgeloop.telemetry.serial_link.outbox import BULK_CHUNK_BYTES

CHUNK_BYTES = BULK_CHUNK_BYTES
WINDOW_CHUNKS = 512
RECEIVING, COMPLETE, UNKNOWN, FAILED = range(4)
"""States of a transfer. UNKNOWN: the device was started again, or has begun another one; FAILED: its disk did."""
_NUMBER = struct.Struct(">I")
_HEAD = struct.Struct(">BI")


@dataclass(frozen=True)
class Arrived:
    """What a device has: every chunk below `first_missing`, and those `beyond`."""

    first_missing: int = 0
    beyond: Collection[int] = frozenset()
    state: int = RECEIVING


def chunk_count(size: int) -> int:
    """Chunks of a file of so many bytes."""
    return -(-size // CHUNK_BYTES)


def encode_chunk(number: int, data: bytes) -> bytes:
    """The body of a chunk's frame."""
    return _NUMBER.pack(number) + data


def decode_chunk(body: bytes) -> tuple[int, bytes]:
    """(number, data). DataError."""
    if not _NUMBER.size <= len(body) <= _NUMBER.size + CHUNK_BYTES:
        raise DataError(f"a chunk of {len(body)} bytes is none")
    return _NUMBER.unpack_from(body)[0], body[_NUMBER.size :]


def encode_arrived(arrived: Arrived) -> bytes:
    """The body of an acknowledgement."""
    bits = 0
    for number in arrived.beyond:
        bits |= 1 << (number - arrived.first_missing)
    return _HEAD.pack(arrived.state, arrived.first_missing) + bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def decode_arrived(body: bytes) -> Arrived:
    """DataError."""
    if not _HEAD.size <= len(body) <= _HEAD.size + WINDOW_CHUNKS // 8:
        raise DataError(f"an acknowledgement of {len(body)} bytes is none")
    state, first = _HEAD.unpack_from(body)
    bits = int.from_bytes(body[_HEAD.size :], "little")
    return Arrived(first, frozenset(first + k for k in range(bits.bit_length()) if bits >> k & 1), state)


class ArrivedChunks:
    """Which chunks of a file are there, as they come."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._first_missing = 0
        self._beyond: set[int] = set()

    @property
    def count(self) -> int:
        return self._first_missing + len(self._beyond)

    @property
    def is_complete(self) -> bool:
        return self._first_missing == self.total

    @property
    def has_gaps(self) -> bool:
        return bool(self._beyond)

    def takes(self, number: int) -> bool:
        """Whether it is wanted, and near enough to be remembered."""
        last = min(self.total, self._first_missing + WINDOW_CHUNKS)
        return self._first_missing <= number < last and number not in self._beyond

    def add(self, number: int) -> None:
        """One that `takes` said yes to is there."""
        self._beyond.add(number)
        while self._first_missing in self._beyond:
            self._beyond.remove(self._first_missing)
            self._first_missing += 1

    def arrived(self, state: int = RECEIVING) -> Arrived:
        """As it stands."""
        return Arrived(self._first_missing, frozenset(self._beyond), COMPLETE if self.is_complete else state)
