"""A member of a zip as a file that can be read anywhere at once: zipfile's own starts anew at every step back, which
takes minutes for the weights of a large model."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, cast

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, at the end of 30 bytes


def seekable(archive: zipfile.ZipFile, path: Path, name: str) -> IO[bytes]:
    """The member's content. What is stored uncompressed is read in place, else from a temporary file.

    Raises BadZipFile and OSError for a damaged archive.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as packed:
            unpacked = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        unpacked.seek(0)
        return unpacked
    file = path.open("rb")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or info.compress_size != info.file_size:
        file.close()
        raise zipfile.BadZipFile(f"'{name}' has no local header, or another size than it says")
    start = info.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    return cast(IO[bytes], _Window(file, start, info.file_size))


class _Window(io.RawIOBase):
    """Bytes `start` to `start + size` of a file, which it closes."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
