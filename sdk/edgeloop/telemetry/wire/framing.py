"""Frames on a byte stream that may lose, flip or double bytes: COBS (kind, payload, CRC-32), ended by a zero byte.

COBS (Cheshire and Baker, 1999) leaves no zero in a frame and costs one byte, and one more for every 254. So a reader
that lost its place finds the next frame at the next zero, and the checksum drops what was damaged: a frame is delivered
as it was sent, or not at all. Nothing here repeats a frame; that is `delivery`'s part.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from edgeloop.errors import DataError
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES

KIND_BATCH = 1
"""Device to host: request id and `encode_batch`."""
KIND_ACK = 2
"""Host to device: the id of the request it answers and `encode_ack`."""
KIND_COMMAND = 3
"""Host to device: request id and a command's envelope, see `edgeloop.telemetry.commands`."""
KIND_ANSWER = 4
"""Device to host: the id of the command's frame and `encode_answer`."""
KIND_CHUNK, KIND_CHUNK_ACK = 6, 7
"""A piece of a file (host to device, bulk on the line), and what has arrived of it, see `serial_link.chunks`. A file is
offered by a command."""

MAX_PAYLOAD_BYTES = MAX_BATCH_BYTES + 64
DELIMITER = b"\x00"
_OVERHEAD_BYTES = 5  # kind and CRC-32
_MAX_ENCODED_BYTES = MAX_PAYLOAD_BYTES + _OVERHEAD_BYTES + MAX_PAYLOAD_BYTES // 254 + 2
_REQUEST_ID = struct.Struct(">I")
_CRC = struct.Struct(">I")


@dataclass(frozen=True)
class Frame:
    """What arrived whole."""

    kind: int
    payload: bytes


def encode_frame(kind: int, payload: bytes) -> bytes:
    """The bytes to write, the ending zero included. DataError for a kind outside 0..255 or too large a payload."""
    if not 0 <= kind <= 255:
        raise DataError(f"frame kind {kind} is not in 0..255")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DataError(f"frame of {len(payload)} bytes is larger than {MAX_PAYLOAD_BYTES}")
    body = bytes([kind]) + payload
    return cobs_encode(body + _CRC.pack(zlib.crc32(body))) + DELIMITER


def encode_request(kind: int, request_id: int, body: bytes) -> bytes:
    """A frame whose payload starts with a 32-bit request id, by which an answer finds its question."""
    return encode_frame(kind, _REQUEST_ID.pack(request_id & 0xFFFF_FFFF) + body)


def split_request(payload: bytes) -> tuple[int, bytes]:
    """(request id, body) of a payload made by `encode_request`. DataError when it is too short."""
    if len(payload) < _REQUEST_ID.size:
        raise DataError("frame is too short for a request id")
    return _REQUEST_ID.unpack_from(payload)[0], payload[_REQUEST_ID.size :]


class FrameReader:
    """Takes a stream in pieces of any size and gives the frames that arrived whole.

    `bad` counts what was dropped: damaged, cut short or too long. The buffer never holds more than one frame of
    the largest size, whatever a stranger sends.
    """

    def __init__(self, max_encoded_bytes: int = _MAX_ENCODED_BYTES) -> None:
        self.bad = 0
        self._max_encoded_bytes = max_encoded_bytes
        self._pending = bytearray()
        self._skipping = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that `data` completes, in order."""
        first, *others = data.split(DELIMITER)
        self._append(first)
        if not others:
            return []
        chunks = [self._take(), *others[:-1]]
        self._append(others[-1])
        frames = []
        for chunk in chunks:
            if chunk and (frame := self._open(chunk)):
                frames.append(frame)
        return frames

    def _append(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._pending) + len(piece) > self._max_encoded_bytes:
            self.bad += 1
            self._pending.clear()
            self._skipping = True
        else:
            self._pending += piece

    def _take(self) -> bytes:
        chunk = bytes(self._pending)
        self._pending.clear()
        self._skipping = False
        return chunk

    def _open(self, chunk: bytes) -> Frame | None:
        body = cobs_decode(chunk) if len(chunk) <= self._max_encoded_bytes else None
        if body is None or len(body) < _OVERHEAD_BYTES or _CRC.unpack(body[-4:])[0] != zlib.crc32(body[:-4]):
            self.bad += 1
            return None
        return Frame(body[0], body[1:-4])


def cobs_encode(data: bytes) -> bytes:
    """`data` without zeros, no delimiter."""
    out = bytearray()
    for run in data.split(DELIMITER):
        full = len(run) // 254 * 254
        for start in range(0, full, 254):
            out.append(255)
            out += run[start : start + 254]
        out.append(len(run) - full + 1)
        out += run[full:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes | None:
    """Inverse of `cobs_encode`; None when `data`, which holds no zero, is not its output."""
    parts = []
    position, end = 0, len(data)
    while position < end:
        code = data[position]
        if position + code > end:
            return None
        parts.append(data[position + 1 : position + code])
        position += code
        if code < 255 and position < end:
            parts.append(DELIMITER)
    return b"".join(parts)
