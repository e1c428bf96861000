"""Reading .npz files that may be hostile: every header is checked before anything is allocated, pickles never run.

Members stored without compression (`np.savez`) are mapped, not loaded, when the file is opened by path.
"""

from __future__ import annotations

import ast
import io
import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError, RefusedError

Array = npt.NDArray[Any]

MAX_MEMBERS = 1024
MAX_HEADER_BYTES = 10_000
ALWAYS_FINE_BYTES = 64 << 20
MAX_RATIO = 200  # deflate reaches 1030:1 on zeros; what people measure stays far below this
MAX_ARRAY_BYTES = 8 << 30

_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class ArrayHeader:
    """What a member says of itself. `data_offset` counts from the member's first byte."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    data_offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An opened .npz. `headers` is complete and checked; `array(name)` reads one member.

    Raises DataError for a file that is no .npz or is damaged, RefusedError for pickles, duplicates and bombs.
    """

    def __init__(self, source: Path | bytes, *, max_array_bytes: int = MAX_ARRAY_BYTES) -> None:
        self._path = source if isinstance(source, Path) else None
        self._what = str(source) if isinstance(source, Path) else "npz"
        self._max_array_bytes = max_array_bytes
        try:
            self._zip = zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source))
        except FileNotFoundError as error:
            raise DataError(f"{self._what}: no such file") from error
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise DataError(
                f"{self._what}: not an .npz file, or damaged ({error})",
                hint="write it by numpy.savez(FILE, x=..., y=...)",
            ) from error
        try:
            self._members = self._list()
            self.headers: dict[str, ArrayHeader] = {name: self._header(name) for name in self._members}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Arrays read before stay valid."""
        self._zip.close()

    def array(self, name: str) -> Array:
        """The whole array `name`; read-only and mapped from the file where it is stored uncompressed."""
        header, info = self.headers[name], self._members[name]
        if self._path is not None and info.compress_type == zipfile.ZIP_STORED and header.nbytes:
            return self._mapped(self._path, header, info)
        array = np.empty(header.shape[::-1] if header.fortran_order else header.shape, header.dtype)
        flat = array.reshape(-1).view(np.uint8).data
        try:
            with self._zip.open(info) as stream:
                _read_exactly(stream, header.data_offset)
                done = 0
                while done < len(flat):
                    chunk = stream.read(min(1 << 20, len(flat) - done))
                    if not chunk:
                        raise DataError(f"{self._what}: '{name}' is cut short")
                    flat[done : done + len(chunk)] = chunk
                    done += len(chunk)
                stream.read(1)  # the end of the member is where its checksum is compared
        except _READ_ERRORS as error:
            raise DataError(f"{self._what}: '{name}' is damaged ({error})") from error
        return array.T if header.fortran_order else array

    def _list(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise RefusedError(f"{self._what}: {len(infos)} members, more than {MAX_MEMBERS}")
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise RefusedError(f"{self._what}: two members are called '{name}'")
            if info.flag_bits & 1:
                raise RefusedError(f"{self._what}: '{name}' is encrypted")
            members[name] = info
        return members

    def _header(self, name: str) -> ArrayHeader:
        info = self._members[name]
        try:
            with self._zip.open(info) as stream:
                header = read_array_header(stream, f"{self._what}: '{name}'")
        except _READ_ERRORS as error:
            raise DataError(f"{self._what}: '{name}' is damaged ({error})") from error
        said = header.data_offset + header.nbytes
        if said != info.file_size:
            raise RefusedError(f"{self._what}: '{name}' declares {said} bytes but holds {info.file_size}")
        stored = info.compress_type == zipfile.ZIP_STORED
        if not stored and header.nbytes > max(ALWAYS_FINE_BYTES, MAX_RATIO * info.compress_size):
            raise RefusedError(
                f"{self._what}: '{name}' would unpack {info.compress_size} bytes to {header.nbytes}: looks like a bomb",
                hint="if it is yours, save it uncompressed with numpy.savez",
            )
        if not (stored and self._path is not None) and header.nbytes > self._max_array_bytes:
            raise RefusedError(
                f"{self._what}: '{name}' needs {header.nbytes} bytes of memory, more than {self._max_array_bytes}",
                hint="save it uncompressed with numpy.savez: then it is read piece by piece",
            )
        return header

    def _mapped(self, path: Path, header: ArrayHeader, info: zipfile.ZipInfo) -> Array:
        with path.open("rb") as file:
            file.seek(info.header_offset)
            raw = file.read(_LOCAL_HEADER.size)
            size = path.stat().st_size
        if len(raw) < _LOCAL_HEADER.size:
            raise DataError(f"{self._what}: cut short")
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
        offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length + header.data_offset
        if magic != b"PK\x03\x04" or offset + header.nbytes > size:
            raise DataError(f"{self._what}: damaged zip entry")
        order = "F" if header.fortran_order else "C"
        return np.memmap(path, header.dtype, "r", offset, header.shape, order)  # type: ignore[call-overload,no-any-return]


def read_array_header(stream: IO[bytes], what: str) -> ArrayHeader:
    """The header of one .npy stream, bounded and without evaluating anything. Raises DataError, RefusedError."""
    start = _read_exactly(stream, 8)
    if start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise DataError(f"{what}: not a numpy array")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(_read_exactly(stream, width), "little")
    if length > MAX_HEADER_BYTES:
        raise RefusedError(f"{what}: an array header of {length} bytes")
    text = _read_exactly(stream, length).decode("utf-8" if start[6] == 3 else "latin-1")
    try:
        fields = ast.literal_eval(text.strip())
        shape, fortran, descr = fields["shape"], fields["fortran_order"], fields["descr"]
        dtype = np.dtype(descr) if isinstance(descr, str) else None
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise DataError(f"{what}: damaged array header") from error
    if dtype is None or dtype.kind not in "biufcUS":
        raise RefusedError(f"{what}: holds {descr!r}, not plain numbers or text", hint="pickled objects are never read")
    good = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 48 for n in shape) and len(shape) <= 32
    if not good or not isinstance(fortran, bool):
        raise DataError(f"{what}: damaged array header")
    return ArrayHeader(shape, dtype, fortran, 8 + width + length)


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        chunk = stream.read(count - len(parts))
        if not chunk:
            raise EOFError("cut short")
        parts += chunk
    return bytes(parts)


_READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, struct.error)
try:
    import lzma
    import zlib

    _READ_ERRORS = (*_READ_ERRORS, zlib.error, lzma.LZMAError)  # type: ignore[assignment]
except ImportError:  # a Python built without them cannot read such members anyway
    pass
