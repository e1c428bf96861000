"""The zip of a bundle, written: the one spelling that `archive` reads.

Not `zipfile`: that takes a dictionary of 8 MiB for LZMA, so packing the same bytes again takes 55 MB and more, which a
device that rebuilds a bundle from a delta does not have. With 1 MiB it is 16 MB, and models get no larger by it.

Source: PKWARE APPNOTE 6.3.9, see `archive`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from edgeloop.bundle.archive import FIXED_ATTRIBUTES, FIXED_DOS_DATE, LZMA, LZMA_HEADER, LZMA_NEEDS, ZipHeaders

DICTIONARY_BYTES = 1 << 20
_LC, _LP, _PB = 3, 0, 2
_LZMA_SDK = (9, 4)
"""Version that the header names: what zipfile writes; no reader asks."""


def pack_archive(members: Mapping[str, bytes]) -> bytes:
    """A zip with these members, each in LZMA. Same members, same bytes."""
    body, directory = bytearray(), bytearray()
    for name, content in members.items():
        raw_name, packed, offset = name.encode("ascii"), _pack(content), len(body)
        sizes = (0, FIXED_DOS_DATE, zlib.crc32(content), len(packed), len(content), len(raw_name), 0)
        body += ZipHeaders.LOCAL.pack(b"PK\x03\x04", LZMA_NEEDS, 2, LZMA, *sizes) + raw_name + packed
        made_by = (3 << 8) | LZMA_NEEDS  # on Unix
        directory += ZipHeaders.CENTRAL.pack(
            b"PK\x01\x02", made_by, LZMA_NEEDS, 2, LZMA, *sizes, 0, 0, 0, FIXED_ATTRIBUTES, offset
        )
        directory += raw_name
    count = len(members)
    end = ZipHeaders.END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def lzma_filters(dictionary_bytes: int = DICTIONARY_BYTES) -> list[dict[str, int]]:
    """As bundles are packed: for `lzma` with FORMAT_RAW."""
    import lzma

    return [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary_bytes, "lc": _LC, "lp": _LP, "pb": _PB}]


def lzma_header(dictionary_bytes: int = DICTIONARY_BYTES) -> bytes:
    """What stands before a member's LZMA data."""
    return LZMA_HEADER.pack(*_LZMA_SDK, 5, (_PB * 5 + _LP) * 9 + _LC, dictionary_bytes)


def _pack(content: bytes) -> bytes:
    import lzma

    return lzma_header() + lzma.compress(content, format=lzma.FORMAT_RAW, filters=lzma_filters())
