"""What lies behind the flatbuffer in a .tflite: the zip archive of TFLite Metadata (label files), or bytes of unknown
use.

The archive's members name their place by their offset in the whole file, so they move when the flatbuffer's size
changes. Format: PKWARE APPNOTE 4.3.16 (end of central directory) and 4.3.12 (central directory).
"""

from __future__ import annotations

import io
import struct
import zipfile

_END = b"PK\x05\x06"
_ENTRY = b"PK\x01\x02"
_MAX_FILE_BYTES = 16 << 20


def behind(data: bytes, end: int) -> bytes:
    """Bytes from `end` on; empty where there is nothing but padding."""
    rest = data[end:]
    start = rest.find(b"PK\x03\x04")
    if start > 0 and not any(rest[:start]):
        rest = rest[start:]
    return rest if any(rest) else b""


def moved(appended: bytes, position: int) -> bytes:
    """The same bytes, to be put at `position` of a file: an archive's offsets are corrected, anything else is left
    alone.
    """
    end = appended.rfind(_END)
    if not appended.startswith(b"PK\x03\x04") or end < 0 or len(appended) < end + 22:
        return appended
    count, size, offset = struct.unpack_from("<HII", appended, end + 10)
    directory = end - size
    if directory < 0 or appended[directory : directory + 4] != _ENTRY:
        return appended
    shift = position + directory - offset
    result = bytearray(appended)
    struct.pack_into("<I", result, end + 16, position + directory)
    entry = directory
    for _ in range(count):
        if result[entry : entry + 4] != _ENTRY or entry + 46 > end:
            return appended
        (member,) = struct.unpack_from("<I", result, entry + 42)
        if not 0 <= member + shift < 1 << 32:
            return appended
        struct.pack_into("<I", result, entry + 42, member + shift)
        entry += 46 + sum(struct.unpack_from("<HHH", result, entry + 28))
    return bytes(result)


def files(appended: bytes) -> dict[str, bytes]:
    """Members of the archive, each at most 16 MiB; empty where there is no readable archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(appended)) as archive:
            small = [info for info in archive.infolist()[:100] if info.file_size <= _MAX_FILE_BYTES]
            return {info.filename: archive.read(info) for info in small}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, struct.error):
        return {}
