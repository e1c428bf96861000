"""What a delta file looks like.

    edgeloop-delta/1\\n  length of the header (4 bytes, big endian)  header (JSON)  data

The header lists, in order, what the new file is made of:
    {"copy": [offset, length]}                   bytes of the old file
    {"data": length}                             bytes of the delta
    {"pack": {"from": member of the old bundle, "runs": [[length, where], ...], "data": length, "dictionary": bytes}}
                                                 LZMA data: that member plus the differences, packed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from edgeloop.bundle.checked import canonical_json, parse_json
from edgeloop.bundle.limits import MAX_MEMBERS, MAX_MODEL_BYTES, MAX_TOTAL_BYTES
from edgeloop.errors import RefusedError
from edgeloop.release.differences import Run

MAX_DICTIONARY_BYTES = 2 << 20
"""Packing takes 12 times as much memory."""
_MAGIC = b"edgeloop-delta/1\n"
_MAX_HEADER_BYTES = 1 << 20
_MAX_PARTS = 8 * MAX_MEMBERS
_MAX_RUNS = 1 << 16
_LEAST_DICTIONARY_BYTES = 4096


@dataclass(frozen=True)
class Copy:
    """Bytes of the old file."""

    offset: int
    length: int


@dataclass(frozen=True)
class Data:
    """Bytes of the delta."""

    length: int


@dataclass(frozen=True)
class Pack:
    """LZMA data of what `member` of the old bundle becomes; `data`: bytes of the packed differences in the delta."""

    member: str
    runs: tuple[Run, ...]
    data: int
    dictionary: int


Part = Copy | Data | Pack


def encode_header(size: int, parts: Sequence[Part]) -> bytes:
    """All that stands before the data. size: bytes of the new file."""
    header = canonical_json({"bytes": size, "parts": [_to_json(part) for part in parts]})
    return _MAGIC + len(header).to_bytes(4, "big") + header


def read_header(file: IO[bytes]) -> tuple[int, tuple[Part, ...]]:
    """(bytes of the new file, its parts); the file stands at the data then. Raises RefusedError."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise damaged("this is no delta, or one of a newer edgeloop")
    length = int.from_bytes(file.read(4), "big")
    if length > _MAX_HEADER_BYTES:
        raise damaged("its header is too long")
    said = parse_json(file.read(length), "the delta's header")
    match said:
        case {"bytes": int(size), "parts": [*parts]} if _is_count(size) and len(parts) <= _MAX_PARTS:
            return size, tuple(_part(part) for part in parts)
    raise damaged("its header is wrong")


def damaged(what: str, *, hint: str | None = None) -> RefusedError:
    """For whoever reads one."""
    return RefusedError(f"the delta is refused: {what}", hint=hint)


def _to_json(part: Part) -> dict[str, Any]:
    match part:
        case Copy():
            return {"copy": [part.offset, part.length]}
        case Data():
            return {"data": part.length}
        case Pack():
            runs = [list(run) for run in part.runs]
            return {"pack": {"from": part.member, "runs": runs, "data": part.data, "dictionary": part.dictionary}}


def _part(said: Any) -> Part:
    match said:
        case {"copy": [offset, length]} if _is_count(offset) and _is_count(length):
            return Copy(offset, length)
        case {"data": length} if _is_count(length):
            return Data(length)
        case {"pack": {"from": str(member), "runs": [*runs], "data": data, "dictionary": dictionary}} if (
            len(runs) <= _MAX_RUNS
            and _is_count(data)
            and _is_count(dictionary, MAX_DICTIONARY_BYTES)
            and dictionary >= _LEAST_DICTIONARY_BYTES
        ):
            return Pack(member, tuple(_run(run) for run in runs), data, dictionary)
    raise damaged("its header is wrong")


def _run(said: Any) -> Run:
    match said:
        case [length, where] if _is_count(length, MAX_MODEL_BYTES) and (_is_count(where) or where == -1):
            return length, where
    raise damaged("its header is wrong")


def _is_count(value: Any, most: int = MAX_TOTAL_BYTES) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
