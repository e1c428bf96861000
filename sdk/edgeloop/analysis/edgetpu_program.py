"""What a compiled model says of itself: how its program's parameters lie on the chip.

The custom op's data is a map of typed values (FlexBuffers) whose entry "4" is a package: flatbuffers in flatbuffers,
as in libedgetpu's `executable.fbs`. Only sizes are read, by offsets that are checked; nothing is believed of a file
that contradicts itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgeloop.graph import Graph
from edgeloop.graph.kinds import EDGETPU_OP

_PACKAGE_KEY = b"4\0"
_MULTI_EXECUTABLE, _EXECUTABLES, _PARAMETERS, _TYPE = 1, 0, 6, 13
"""Field numbers of Package, MultiExecutable and Executable."""
_CACHING = 1
_MAP = 9
"""Type of a value in FlexBuffers."""
_MAX_EXECUTABLES = 64


@dataclass(frozen=True)
class ProgramSize:
    """Bytes of parameters that are put on the chip once, and of those sent to it at every inference."""

    cached_bytes: int
    streamed_bytes: int


def program_size(graph: Graph) -> ProgramSize | None:
    """Of all programs of a compiled model; None where there is none, or where it cannot be read."""
    cached = streamed = 0
    programs = [op for op in graph.main.ops if op.name == EDGETPU_OP]
    for op in programs:
        try:
            for kind, size in _executables(bytes(op.custom_options or b"")):
                cached, streamed = (cached + size, streamed) if kind == _CACHING else (cached, streamed + size)
        except (struct.error, ValueError, IndexError, OverflowError):
            return None
    return ProgramSize(cached, streamed) if programs else None


def _executables(options: bytes) -> list[tuple[int, int]]:
    """(type, parameter bytes) of each."""
    package = _Table(_package(options))
    multi = _Table(package.vector(_MULTI_EXECUTABLE))
    found = []
    for raw in multi.strings(_EXECUTABLES):
        table = _Table(raw)
        found.append((table.short(_TYPE), len(table.vector(_PARAMETERS))))
    return found


def _package(options: bytes) -> memoryview:
    """The blob of key "4". Layout of FlexBuffers: values before their vector, its length before it, the root last."""
    if len(options) < 3 or options[-2] >> 2 != _MAP:
        raise ValueError("no package")
    root_width, width = options[-1], 1 << (options[-2] & 3)
    root_at = len(options) - 2 - root_width
    values = root_at - _unsigned(options, root_at, root_width)
    count = _unsigned(options, values - width, width)
    keys_at = values - 3 * width
    keys, key_width = keys_at - _unsigned(options, keys_at, width), _unsigned(options, values - 2 * width, width)
    for index in range(min(count, 64)):
        at = keys + index * key_width
        key = at - _unsigned(options, at, key_width)
        if key < 0 or options[key : key + len(_PACKAGE_KEY)] != _PACKAGE_KEY:
            continue
        place = values + index * width
        blob = place - _unsigned(options, place, width)
        size_width = 1 << (options[values + count * width + index] & 3)
        size = _unsigned(options, blob - size_width, size_width)
        if blob < 0 or blob + size > len(options):
            break
        return memoryview(options)[blob : blob + size]
    raise ValueError("no package")


def _unsigned(data: bytes, at: int, width: int) -> int:
    if width not in (1, 2, 4, 8) or at < 0 or at + width > len(data):
        raise ValueError("out of bounds")
    return int.from_bytes(data[at : at + width], "little")


class _Table:
    """The root table of a flatbuffer. Raises ValueError or struct.error for what lies outside of it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = self._u32(0)
        vtable = self._at - int(struct.unpack_from("<i", data, self._at)[0])
        if vtable < 0:
            raise ValueError("out of bounds")
        size = int(struct.unpack_from("<H", data, vtable)[0])
        self._fields = [int(struct.unpack_from("<H", data, vtable + i)[0]) for i in range(4, size, 2)]

    def _u32(self, at: int) -> int:
        if at < 0:
            raise ValueError("out of bounds")
        return int(struct.unpack_from("<I", self._data, at)[0])

    def _field(self, number: int) -> int | None:
        offset = self._fields[number] if number < len(self._fields) else 0
        return self._at + offset if offset else None

    def short(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else int(struct.unpack_from("<h", self._data, at)[0])

    def vector(self, number: int) -> memoryview:
        """Of bytes; empty where the field is not there."""
        at = self._field(number)
        return memoryview(b"") if at is None else self._counted(at + self._u32(at))

    def strings(self, number: int) -> list[memoryview]:
        at = self._field(number)
        if at is None:
            return []
        start = at + self._u32(at)
        places = [start + 4 + 4 * i for i in range(min(self._u32(start), _MAX_EXECUTABLES))]
        return [self._counted(place + self._u32(place)) for place in places]

    def _counted(self, at: int) -> memoryview:
        """Bytes behind their number."""
        size = self._u32(at)
        if at + 4 + size > len(self._data):
            raise ValueError("out of bounds")
        return self._data[at + 4 : at + 4 + size]
