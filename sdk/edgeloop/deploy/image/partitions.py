"""Where the partitions of a disk image lie, and what is in them.

MBR: four entries of 16 bytes at byte 446, signature 55 AA at 510. GPT: UEFI specification 2.10, section 5.3: header in
sector 1, entries of at least 128 bytes from the sector it names. File systems are told by their own marks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeloop.errors import DataError

SECTOR_BYTES = 512
FAT, EXT4, OTHER = "fat", "ext4", "other"
_MBR_SIGNATURE, _GPT_MARK = b"\x55\xaa", b"EFI PART"
_PROTECTIVE_GPT = 0xEE
_MAX_GPT_ENTRIES, _MAX_GPT_ENTRY_BYTES = 1024, 4096
_EXT_MAGIC_AT, _EXT_MAGIC = 1024 + 56, b"\x53\xef"
_KNOWN_STARTS = {
    b"\xfd7zXZ\x00": ("compressed with xz", "give it a name that ends in .xz, and -o OUT for the result"),
    b"\x1f\x8b": ("compressed with gzip", "gunzip it first"),
    b"PK\x03\x04": ("a zip file", "unzip it first"),
    b"(\xb5/\xfd": ("compressed with zstd", "zstd -d it first"),
}


@dataclass(frozen=True)
class Partition:
    """number: as Linux counts them, from 1. start_bytes, size_bytes: in the image. kind: "fat", "ext4" or "other"."""

    number: int
    start_bytes: int
    size_bytes: int
    kind: str


def read_partitions(image: Path) -> tuple[Partition, ...]:
    """Of a disk image with an MBR or GPT, in the table's order. Raises DataError for anything else."""
    try:
        with image.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            head = file.read(SECTOR_BYTES)
            for start, (what, hint) in _KNOWN_STARTS.items():
                if head.startswith(start):
                    raise DataError(f"{image} is {what}, not a disk image", hint=hint)
            if len(head) < SECTOR_BYTES or head[510:] != _MBR_SIGNATURE:
                raise DataError(f"{image} is not a disk image: it has no partition table", hint=_HINT)
            entries = _mbr_entries(head)
            if any(kind == _PROTECTIVE_GPT for kind, _, _ in entries):
                spans = _gpt_spans(file, image)
            else:
                spans = [
                    (i + 1, start, sectors) for i, (kind, start, sectors) in enumerate(entries) if kind and sectors
                ]
            return tuple(_partition(file, image, size_bytes, *span) for span in spans)
    except OSError as error:
        raise DataError(f"{image}: {error.strerror}") from error


_HINT = "a Raspberry Pi OS image (.img or .img.xz) is what is wanted"


def _mbr_entries(sector: bytes) -> list[tuple[int, int, int]]:
    """(type, first sector, sectors) of the four."""
    rows = [sector[446 + 16 * i : 462 + 16 * i] for i in range(4)]
    return [(row[4], *struct.unpack_from("<II", row, 8)) for row in rows]


def _gpt_spans(file: BinaryIO, image: Path) -> list[tuple[int, int, int]]:
    """(number, first sector, sectors) of the entries in use."""
    file.seek(SECTOR_BYTES)
    header = file.read(92)
    if len(header) < 92 or not header.startswith(_GPT_MARK):
        raise DataError(f"{image} says it has a GPT, and its header is damaged", hint=_HINT)
    (first,) = struct.unpack_from("<Q", header, 72)
    count, entry_bytes = struct.unpack_from("<II", header, 80)
    if count > _MAX_GPT_ENTRIES or not 128 <= entry_bytes <= _MAX_GPT_ENTRY_BYTES or first > 1 << 32:
        raise DataError(f"{image}: its GPT names {count} entries of {entry_bytes} bytes: damaged", hint=_HINT)
    file.seek(first * SECTOR_BYTES)
    table = file.read(count * entry_bytes)
    spans = []
    for i in range(len(table) // entry_bytes):
        entry = table[i * entry_bytes : (i + 1) * entry_bytes]
        if any(entry[:16]):  # all zeros: not in use
            start, last = struct.unpack_from("<QQ", entry, 32)
            spans.append((i + 1, start, last - start + 1))
    return spans


def _partition(file: BinaryIO, image: Path, size_bytes: int, number: int, start: int, sectors: int) -> Partition:
    begin, length = start * SECTOR_BYTES, sectors * SECTOR_BYTES
    if begin == 0 or length <= 0 or begin + length > size_bytes:
        raise DataError(f"{image}: partition {number} lies outside of the image: it is cut short", hint=_HINT)
    file.seek(begin)
    return Partition(number, begin, length, _kind(file.read(2048)))


def _kind(head: bytes) -> str:
    if head[_EXT_MAGIC_AT : _EXT_MAGIC_AT + 2] == _EXT_MAGIC:
        return EXT4
    is_fat = head[510:512] == _MBR_SIGNATURE and (head[54:57] == b"FAT" or head[82:85] == b"FAT")
    return FAT if is_fat else OTHER
