"""A strict reader for the two zip files of a bundle: the bundle itself (LZMA) and golden.npz in it (stored).

Not `zipfile`: that accepts prefixed and suffixed data, duplicate names, encryption, any method and any LZMA
dictionary, and believes the sizes it is told. Here every byte between the first and the last belongs to exactly one
member, every header field has the one value that `archive_writer` (and `zipfile.ZipFile`) gives it, and
output is counted, not believed.

Source: PKWARE APPNOTE 6.3.9, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end record), 5.8.8
(LZMA).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeloop.bundle.limits import MAX_LZMA_DICTIONARY_BYTES
from edgeloop.errors import RefusedError

STORED = 0
LZMA = 14

ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> exactly `size` bytes, or RefusedError."""


class ZipHeaders:
    """Layouts of a local header, an entry of the directory and the end record; names follow the first two."""

    LOCAL = struct.Struct("<4s5H3L2H")
    CENTRAL = struct.Struct("<4s6H3L5H2L")
    END = struct.Struct("<4s4H2LH")


LZMA_HEADER = struct.Struct("<BBHBL")
"""Before a member's LZMA data: version of the SDK (2), size of the properties, properties, bytes of the dictionary."""
LZMA_NEEDS = 63
"""The version that a reader of LZMA members needs, as zip writes it."""
_CHUNK_BYTES = 256 << 10
_FLAG_LZMA_END_MARKER = 0x0002
_SAFE_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]|/(?=[A-Za-z0-9_])){0,199}", re.ASCII)
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
FIXED_DOS_DATE = (1 << 5) | 1
FIXED_MODE = 0o100644
FIXED_ATTRIBUTES = FIXED_MODE << 16


SNIFFED_BYTES = 64
_METHOD_OFFSET, _NAME_OFFSET = 8, 30  # of a local header


def is_stored_manifest(head: bytes) -> bool:
    """Whether a zip that begins so has a manifest.json first, and not packed: a package. head: SNIFFED_BYTES of it."""
    name = b"manifest.json"
    begins = head.startswith(b"PK\x03\x04") and head[_NAME_OFFSET : _NAME_OFFSET + len(name)] == name
    return begins and head[_METHOD_OFFSET] == STORED


@dataclass(frozen=True)
class Member:
    """One file of the archive. `size` is what the headers say; reading checks it."""

    name: str
    method: int
    crc32: int
    packed_bytes: int
    size: int
    data_offset: int


@dataclass(frozen=True)
class Archive:
    """A zip's checked directory. Sizes in bytes."""

    members: dict[str, Member]
    read_at: ReadAt
    what: str

    def chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """A member's content in pieces, never more than `max_bytes` in all. Raises RefusedError."""
        member = self.members.get(name)
        if member is None:
            raise RefusedError(f"{self.what}: {name} is missing")
        where = f"{self.what}: {name}"
        if member.size > max_bytes:
            raise RefusedError(f"{where}: {member.size} bytes are more than the allowed {max_bytes}")
        unpack = self._stored(member) if member.method == STORED else self._lzma(member, where)
        total = 0
        crc = 0
        for chunk in unpack:
            total += len(chunk)
            if total > member.size:
                raise RefusedError(f"{where}: unpacks to more than its {member.size} bytes")
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if total != member.size or crc != member.crc32:
            raise RefusedError(f"{where}: damaged (size or checksum differ from the zip directory)")

    def read(self, name: str, max_bytes: int) -> bytes:
        """A member's whole content. Raises RefusedError."""
        return b"".join(self.chunks(name, max_bytes))

    def _stored(self, member: Member) -> Iterator[bytes]:
        for done in range(0, member.packed_bytes, _CHUNK_BYTES):
            yield self.read_at(member.data_offset + done, min(_CHUNK_BYTES, member.packed_bytes - done))

    def _lzma(self, member: Member, where: str) -> Iterator[bytes]:
        import lzma

        if member.packed_bytes < LZMA_HEADER.size:
            raise RefusedError(f"{where}: damaged LZMA data")
        header = self.read_at(member.data_offset, LZMA_HEADER.size)
        _, _, properties_bytes, packed_properties, dictionary_bytes = LZMA_HEADER.unpack(header)
        pb, rest = divmod(packed_properties, 45)
        lp, lc = divmod(rest, 9)
        if properties_bytes != 5 or pb > 4 or lc + lp > 4:
            raise RefusedError(f"{where}: damaged LZMA data")
        if dictionary_bytes > MAX_LZMA_DICTIONARY_BYTES:
            raise RefusedError(f"{where}: asks for an LZMA dictionary of {dictionary_bytes} bytes")
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(dictionary_bytes, 4096), "lc": lc, "lp": lp, "pb": pb}]
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        position = member.data_offset + LZMA_HEADER.size
        end = member.data_offset + member.packed_bytes
        try:
            while not unpacker.eof:
                fresh = b""
                if unpacker.needs_input:
                    if position >= end:
                        raise RefusedError(f"{where}: damaged LZMA data (it ends too early)")
                    fresh = self.read_at(position, min(_CHUNK_BYTES, end - position))
                    position += len(fresh)
                chunk = unpacker.decompress(fresh, max_length=_CHUNK_BYTES)
                if chunk:
                    yield chunk
        except lzma.LZMAError as error:
            raise RefusedError(f"{where}: damaged LZMA data") from error
        if position != end or unpacker.unused_data:
            raise RefusedError(f"{where}: data after the end of its LZMA stream")


def open_archive(read_at: ReadAt, size: int, *, method: int, max_members: int, what: str) -> Archive:
    """Check a zip's whole structure without unpacking any of it.

    size: bytes of the file. method: the one compression every member must have. what: names the file in errors.
    Raises RefusedError, naming the member where there is one.
    """
    if size < ZipHeaders.END.size:
        raise RefusedError(f"{what}: not a bundle (too short for a zip)")
    end_offset = size - ZipHeaders.END.size
    signature, disk, first_disk, here, total, directory_bytes, directory_offset, comment = ZipHeaders.END.unpack(
        read_at(end_offset, ZipHeaders.END.size)
    )
    if signature != b"PK\x05\x06":
        raise RefusedError(f"{what}: not a bundle, cut short, or with data after its end")
    if disk or first_disk or here != total or comment:
        raise RefusedError(f"{what}: a zip with several disks or a comment is not a bundle")
    if not 0 < total <= max_members:
        raise RefusedError(f"{what}: {total} members, 1 to {max_members} are allowed")
    if directory_offset + directory_bytes != end_offset:
        raise RefusedError(f"{what}: data before, after or inside the zip directory")
    if directory_bytes > total * (ZipHeaders.CENTRAL.size + 256):
        raise RefusedError(f"{what}: the zip directory is too large")
    members = _directory(read_at(directory_offset, directory_bytes), total, method, what)
    _check_local_headers(read_at, members, directory_offset, what)
    return Archive({m.name: m for m, _ in members}, read_at, what)


def _directory(raw: bytes, total: int, method: int, what: str) -> list[tuple[Member, tuple[int, ...]]]:
    members: list[tuple[Member, tuple[int, ...]]] = []
    seen: set[str] = set()
    position = 0
    for _ in range(total):
        if position + ZipHeaders.CENTRAL.size > len(raw):
            raise RefusedError(f"{what}: the zip directory is damaged")
        (signature, made_by, needs, flags, compression, time, date, crc, packed, size, name_bytes, extra_bytes,
         comment_bytes, disk, internal, attributes, offset) = ZipHeaders.CENTRAL.unpack_from(raw, position)  # fmt: skip
        position += ZipHeaders.CENTRAL.size
        raw_name = raw[position : position + name_bytes]
        position += name_bytes
        name = raw_name.decode("ascii", "backslashreplace")
        where = f"{what}: {name[:80]!r}"
        if signature != b"PK\x01\x02" or len(raw_name) != name_bytes or not name_bytes:
            raise RefusedError(f"{what}: the zip directory is damaged")
        if not _SAFE_NAME.fullmatch(name):
            raise RefusedError(f"{where} is not an allowed member name")
        if name in seen:
            raise RefusedError(f"{where} is in the zip twice")
        if flags & 0x0041:
            raise RefusedError(f"{where} is encrypted")
        if compression != method:
            raise RefusedError(f"{where} has compression method {compression}, only {method} is allowed")
        if attributes >> 28 not in (0, 0o10):
            raise RefusedError(f"{where} is not a regular file")
        wanted_flags = _FLAG_LZMA_END_MARKER if method == LZMA else 0
        plain = (flags, extra_bytes, comment_bytes, disk, internal) == (wanted_flags, 0, 0, 0, 0)
        fixed = (time, date, attributes, made_by >> 8) == (0, FIXED_DOS_DATE, FIXED_ATTRIBUTES, 3)
        if not plain or not fixed or made_by & 0xFF != needs or needs != (LZMA_NEEDS if method == LZMA else 20):
            raise RefusedError(f"{where} has zip header fields that edgeloop does not write")
        if method == STORED and packed != size:
            raise RefusedError(f"{where}: stored size and real size differ")
        seen.add(name)
        data_offset = offset + ZipHeaders.LOCAL.size + name_bytes
        local = (needs, flags, compression, time, date, crc, packed, size, name_bytes, 0)
        members.append((Member(name, compression, crc, packed, size, data_offset), local))
    if position != len(raw):
        raise RefusedError(f"{what}: the zip directory is damaged")
    return members


def _check_local_headers(
    read_at: ReadAt, members: list[tuple[Member, tuple[int, ...]]], directory_offset: int, what: str
) -> None:
    """Local headers must say what the directory says, and the members must fill the file without a gap."""
    position = 0
    for member, local in members:
        raw_name = member.name.encode("ascii")
        if member.data_offset != position + ZipHeaders.LOCAL.size + len(raw_name):
            raise RefusedError(f"{what}: {member.name}: data between the zip members")
        if member.data_offset + member.packed_bytes > directory_offset:
            raise RefusedError(f"{what}: {member.name}: reaches into the zip directory")
        raw = read_at(position, ZipHeaders.LOCAL.size + len(raw_name))
        signature, *values = ZipHeaders.LOCAL.unpack_from(raw)
        if signature != b"PK\x03\x04" or tuple(values) != local or raw[ZipHeaders.LOCAL.size :] != raw_name:
            raise RefusedError(f"{what}: {member.name}: its two zip headers differ")
        position = member.data_offset + member.packed_bytes
    if position != directory_offset:
        raise RefusedError(f"{what}: data between the zip members and the directory")
