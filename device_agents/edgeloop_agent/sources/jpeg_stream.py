"""JPEG pictures out of a stream of bytes: a camera program's pipe, or a multipart stream with headers in between."""

from __future__ import annotations

from edgeloop.errors import DataError

MAX_PICTURE_BYTES = 32 << 20
MAX_BETWEEN_BYTES = 256 << 10
"""Between two pictures; headers are some hundred."""
_BEGIN = b"\xff\xd8\xff"
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD8)))  # markers without a segment: stuffing, TEM, restarts
_END = 0xD9


class JpegSplitter:
    """`feed` bytes as they come; `take` gives whole pictures. Pictures inside a picture (a thumbnail) stay there."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._between = 0
        self._at = 0  # up to here the picture at the buffer's start was walked; 0: none has begun

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> bytes | None:
        """The next whole picture; None where more bytes are needed. Raises DataError for one that is cut off or larger
        than MAX_PICTURE_BYTES, and once in MAX_BETWEEN_BYTES without one; the next call goes on behind it.
        """
        buffer = self._buffer
        if not self._at:
            begin = buffer.find(_BEGIN)
            if begin < 0:
                self._skip(max(0, len(buffer) - 2))  # the last may be the first bytes of a picture
                return None
            self._skip(begin)
            self._between = 0
            self._at = 2
        while True:
            marker = buffer.find(b"\xff", self._at)
            if marker < 0 or marker + 1 >= len(buffer):
                self._at = max(self._at, len(buffer)) if marker < 0 else marker  # a segment may reach beyond
                break
            code = buffer[marker + 1]
            if code == 0xFF:  # fill bytes
                self._at = marker + 1
            elif code in _ALONE:
                self._at = marker + 2
            elif code == _END:
                return self._cut(marker + 2)
            elif code == 0xD8:
                self._cut(marker)
                raise DataError("a picture was cut off: the next one began in its middle")
            elif marker + 3 >= len(buffer):
                self._at = marker
                break
            else:
                self._at = marker + 2 + max(2, int.from_bytes(buffer[marker + 2 : marker + 4], "big"))
        if len(buffer) > MAX_PICTURE_BYTES:
            self._cut(len(buffer))
            raise DataError(f"a picture of more than {MAX_PICTURE_BYTES >> 20} MiB, or no JPEG at all")
        return None

    def _skip(self, count: int) -> None:
        """Raises DataError where no picture comes in all that comes."""
        del self._buffer[:count]
        self._between += count
        if self._between > MAX_BETWEEN_BYTES:
            self._between = 0
            raise DataError(f"no JPEG picture in {MAX_BETWEEN_BYTES >> 10} KiB of what it sends")

    def _cut(self, end: int) -> bytes:
        picture = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._at = 0
        return picture
