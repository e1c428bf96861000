"""From the bundle file that a device has to the next one: what changed, small, and back to exactly the published bytes.

A bundle's members are packed, so two of its files have nothing in common. A delta holds the differences of what is in
them (see `differences`), and the device packs the result again with the settings that the published file was packed
with. That gives the published bytes or it does not, which their SHA-256 shows: then the device takes the full file.

Memory on the device: the dictionary (1 MiB) and LZMA's tables for it, about 20 MB; the old member is unpacked into a
file beside the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edgeloop.bundle.archive import LZMA, LZMA_HEADER, Archive, Member, open_archive
from edgeloop.bundle.archive_writer import lzma_filters, lzma_header
from edgeloop.bundle.limits import MAX_MEMBERS, MAX_MODEL_BYTES, MAX_TOTAL_BYTES
from edgeloop.errors import DeviceError, EdgeloopError, RefusedError
from edgeloop.release.delta_format import (
    MAX_DICTIONARY_BYTES,
    Copy,
    Data,
    Pack,
    Part,
    damaged,
    encode_header,
    read_header,
)
from edgeloop.release.differences import add, find_runs, pieces, subtract

WORTH_IT = 0.6
"""Of the full file's size: a larger delta is not published."""
_CHUNK_BYTES = 256 << 10


def make_delta(old: Path, new: Path) -> bytes | None:
    """The delta from one bundle file to another; None where it is not under WORTH_IT of the full file, or the new file
    cannot be rebuilt exactly (packed by another LZMA, or for a larger dictionary). Needs numpy.

    Raises RefusedError for what is no bundle, DeviceError where a file cannot be read.
    """
    try:
        with _opened(old) as (_, before), _opened(new) as (new_file, after):
            size = new.stat().st_size
            parts, data = _described(before, after, new_file, size)
        delta = encode_header(size, parts) + data
        return delta if len(delta) < WORTH_IT * size and _leads_there(old, delta, new) else None
    except OSError as error:
        raise DeviceError(f"{error.filename or new}: {error.strerror}") from error


def apply_delta(old: Path, delta: Path, out: Path, expected_sha256: str, *, max_bytes: int = MAX_TOTAL_BYTES) -> None:
    """Write to `out` the file that the delta leads to from `old`; only whole and with that SHA-256 (hex) it gets its
    name. `max_bytes`: of the result.

    Raises RefusedError for a delta that is damaged or leads elsewhere, DeviceError where the disk fails.
    """
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        with os.fdopen(descriptor, "wb") as file, delta.open("rb") as source, _opened(old) as (old_file, before):
            size, parts = read_header(source)
            if size > max_bytes:
                raise damaged(f"it leads to {size} bytes, {max_bytes} are allowed")
            written = _Counted(file, size)
            for part in parts:
                match part:
                    case Copy():
                        old_file.seek(part.offset)
                        written.take(old_file, part.length)
                    case Data():
                        written.take(source, part.length)
                    case Pack():
                        _pack(part, source, before, written, out.parent)
            if written.bytes != size or source.read(1):
                raise damaged("its parts do not add up")
            if written.sha256 != expected_sha256:
                raise damaged("it leads to another file than was published")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(out)
    except OSError as error:
        raise DeviceError(f"{error.filename or out}: {error.strerror}", hint="what runs is as it was") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Archive]]:
    """A bundle file and its checked zip. Raises OSError, RefusedError."""
    with path.open("rb") as file:

        def read_at(offset: int, size: int) -> bytes:
            found = os.pread(file.fileno(), size, offset)
            if len(found) != size:
                raise RefusedError(f"{path.name}: the file is cut short")
            return found

        size = os.fstat(file.fileno()).st_size
        yield file, open_archive(read_at, size, method=LZMA, max_members=MAX_MEMBERS, what=path.name)


# -- made


def _described(before: Archive, after: Archive, new_file: IO[bytes], size: int) -> tuple[list[Part], bytes]:
    by_sum = {(member.crc32, member.size): member for member in before.members.values()}
    parts: list[Part] = []
    data = bytearray()

    def take(piece: bytes) -> None:
        if parts and isinstance(parts[-1], Data):
            piece_before = parts.pop()
            assert isinstance(piece_before, Data)
            parts.append(Data(piece_before.length + len(piece)))
        elif piece:
            parts.append(Data(len(piece)))
        data.extend(piece)

    for member in sorted(after.members.values(), key=lambda m: m.data_offset):
        take(new_file.read(member.data_offset - new_file.tell()))
        packed = new_file.read(member.packed_bytes)
        same = by_sum.get((member.crc32, member.size))
        if same is not None and before.read_at(same.data_offset, same.packed_bytes) == packed:
            parts.append(Copy(same.data_offset, same.packed_bytes))
        elif (changed := _changed(before, after, member, packed)) is not None:
            parts.append(changed[0])
            data.extend(changed[1])
        else:
            take(packed)
    take(new_file.read(size - new_file.tell()))
    return parts, bytes(data)


def _changed(before: Archive, after: Archive, member: Member, packed: bytes) -> tuple[Pack, bytes] | None:
    """How to pack a member from the old one of its name, where that takes less than its packed bytes."""
    import lzma

    base = before.members.get(member.name)
    dictionary = LZMA_HEADER.unpack_from(packed)[-1]
    known = packed.startswith(lzma_header(dictionary)) and dictionary <= MAX_DICTIONARY_BYTES
    if base is None or not known or max(base.size, member.size) > MAX_MODEL_BYTES:
        return None
    old, new = before.read(member.name, MAX_MODEL_BYTES), after.read(member.name, MAX_MODEL_BYTES)
    runs, position, differences = tuple(find_runs(old, new)), 0, bytearray()
    for length, where in pieces(runs):
        fresh = new[position : position + length]
        differences += fresh if where < 0 else subtract(fresh, old[where : where + length])
        position += length
    data = lzma.compress(differences, format=lzma.FORMAT_RAW, filters=lzma_filters())
    return (Pack(member.name, runs, len(data), dictionary), data) if len(data) + 16 * len(runs) < len(packed) else None


def _leads_there(old: Path, delta: bytes, new: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "delta"
        made.write_bytes(delta)
        try:
            apply_delta(old, made, Path(folder) / "out", hashlib.sha256(new.read_bytes()).hexdigest())
        except EdgeloopError:
            return False
    return True


# -- applied


def _pack(part: Pack, source: IO[bytes], before: Archive, written: _Counted, folder: Path) -> None:
    import lzma

    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=lzma_filters(part.dictionary))
    written.write(lzma_header(part.dictionary))
    # In `folder` and not in /tmp, which is in memory on many boards.
    with tempfile.TemporaryFile(dir=folder) as base:
        for piece in before.chunks(part.member, MAX_MODEL_BYTES):
            base.write(piece)
        base.flush()
        differences = _Unpacked(source, part.data)
        for length, where in pieces(part.runs):
            fresh = differences.read(length)
            if where >= 0:
                there = os.pread(base.fileno(), length, where)
                if len(there) != length:
                    raise damaged("a run reaches beyond the old content")
                fresh = add(fresh, there)
            written.write(packer.compress(fresh))
        differences.end()
    written.write(packer.flush())


class _Unpacked:
    """LZMA data, so many bytes of a file, unpacked as it is read. Raises RefusedError."""

    def __init__(self, source: IO[bytes], length: int) -> None:
        import lzma

        self._damage = lzma.LZMAError
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters())
        self._source, self._left = source, length

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        parts = []
        while size:
            piece = self._some(size)
            parts.append(piece)
            size -= len(piece)
        return b"".join(parts)

    def end(self) -> None:
        """Everything must have been read by now."""
        while not self._unpacker.eof:
            if self._some(1):
                break
        if self._left or not self._unpacker.eof or self._unpacker.unused_data:
            raise damaged("its differences are longer than what they are of")

    def _some(self, size: int) -> bytes:
        fresh = b""
        if self._unpacker.needs_input and not self._unpacker.eof:
            fresh = self._source.read(min(self._left, _CHUNK_BYTES))
            self._left -= len(fresh)
        if self._unpacker.eof or (self._unpacker.needs_input and not fresh):
            raise damaged("its differences end too early")
        try:
            return self._unpacker.decompress(fresh, max_length=size)
        except self._damage as error:
            raise damaged("its differences cannot be unpacked") from error


class _Counted:
    """A file that takes no more than so many bytes, and knows their SHA-256."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.bytes = 0
        self._file, self._most, self._hash = file, most, hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, piece: bytes) -> None:
        self.bytes += len(piece)
        if self.bytes > self._most:
            raise damaged("its parts do not add up")
        self._hash.update(piece)
        self._file.write(piece)

    def take(self, source: IO[bytes], length: int) -> None:
        """So many bytes of another file."""
        while length:
            piece = source.read(min(length, _CHUNK_BYTES))
            if not piece:
                raise damaged("it is cut short, or copies from beyond the old file")
            length -= len(piece)
            self.write(piece)
