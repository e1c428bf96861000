"""The zip of a bundle, as it is written."""

from __future__ import annotations

import io
import zipfile

from edgeloop.bundle.archive import LZMA, LZMA_HEADER, open_archive
from edgeloop.bundle.archive_writer import DICTIONARY_BYTES, pack_archive

MEMBERS = {"manifest.json": b"{}" * 100, "models/int8.tflite": bytes(range(256)) * 300, "empty": b""}


def test_others_read_it_and_the_strict_reader_does() -> None:
    raw = pack_archive(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS
    archive = open_archive(lambda at, size: raw[at : at + size], len(raw), method=LZMA, max_members=8, what="it")
    assert {name: archive.read(name, 1 << 20) for name in archive.members} == MEMBERS


def test_no_member_asks_for_more_than_a_small_device_has() -> None:
    raw = pack_archive(MEMBERS)
    archive = open_archive(lambda at, size: raw[at : at + size], len(raw), method=LZMA, max_members=8, what="it")
    for member in archive.members.values():
        assert LZMA_HEADER.unpack_from(raw, member.data_offset)[-1] == DICTIONARY_BYTES
