"""Bounds of a flatbuffer, checked before LiteRT's object API reads it.

That API trusts its input: an offset may point anywhere, a vector may claim 2^32 elements, and one table may be named a
million times. The layout (which slot holds what) is learnt by asking LiteRT's own generated readers, so that it is
always the installed schema's. Limits: a part of the file may be reached often, but all visits together cover at most 16
times its size, and at most one table per 8 bytes or 300,000 tables. Work and memory are therefore bounded by the size
of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any

from edgeloop.errors import RefusedError

_MAX_TABLES = 300_000
_UNIONS = {  # reader's method -> (method that has its type, enum of the types)
    "BuiltinOptions": ("BuiltinOptionsType", "BuiltinOptions"),
    "BuiltinOptions2": ("BuiltinOptions2Type", "BuiltinOptions2"),
    "Details": ("DetailsType", "QuantizationDetails"),
    "ArraySegments": ("ArraySegmentsType", "SparseIndexVector"),
    "ArrayIndices": ("ArrayIndicesType", "SparseIndexVector"),
}
_SCALAR, _STRING, _TABLE, _UNION, _NUMBERS, _STRINGS, _TABLES = range(7)


@dataclass(frozen=True)
class _Field:
    name: str
    kind: int
    width: int = 4
    table: type | None = None


@dataclass
class Extent:
    """What verification found.

    `end`: first byte behind all that the flatbuffer reaches. `unknown`: fields a newer schema has.
    """

    end: int = 8
    unknown: set[str] = field(default_factory=set)


class _FoundError(Exception):
    """Ends a probe: the layout of the field is known."""


class _Probe:
    """Stands in for flatbuffers' Table in one reader method and notes which slot it reads, and as what.

    Names are Table's.
    """

    Bytes = b""
    Pos = 0

    def __init__(self) -> None:
        self.slot = 0
        self.kind: int | None = None
        self.width = 4
        self._vector = False

    def Offset(self, slot: int) -> int:
        self.slot = slot
        return 1

    def Vector(self, _offset: int) -> int:
        self._vector = True
        return 0

    def Indirect(self, _offset: int) -> int:
        self.kind = _TABLES if self._vector else _TABLE
        return 0

    def Get(self, flags: Any, _offset: int) -> int:
        self.kind, self.width = (_NUMBERS if self._vector else _SCALAR), flags.bytewidth
        raise _FoundError

    def String(self, _offset: int) -> bytes:
        self.kind = _STRINGS if self._vector else _STRING
        raise _FoundError

    def Union(self, _table: object, _offset: int) -> None:
        self.kind = _UNION
        raise _FoundError

    def VectorLen(self, _offset: int) -> int:
        raise _FoundError

    def GetVectorAsNumpy(self, _flags: Any, _offset: int) -> int:
        raise _FoundError


@lru_cache(maxsize=512)
def _fields(reader: type) -> dict[int, _Field]:
    """Slot -> field of one table of LiteRT's schema."""
    found: dict[int, _Field] = {}
    for name, method in vars(reader).items():
        if not isinstance(method, FunctionType) or name == "Init":
            continue
        probe = _Probe()
        instance: Any = reader()
        instance._tab = probe
        arguments = method.__code__.co_argcount - 1
        table = None
        try:
            value = method(instance, *([0] * arguments))
            table = type(value) if probe.kind in (_TABLE, _TABLES) else None
        except _FoundError:
            pass
        if probe.kind is not None:
            found[probe.slot] = _Field(name, probe.kind, probe.width, table)
    return found


class _Verifier:
    def __init__(self, data: bytes, schema: Any) -> None:
        self.data = data
        self.schema = schema
        self.extent = Extent()
        self.bytes_left = 16 * len(data) + 4096
        self.tables_left = min(_MAX_TABLES, 1000 + len(data) // 8)

    def spend(self, start: int, count: int) -> None:
        """[start, start + count) must lie in the file, and within what may be visited in all."""
        end = start + count
        if start < 0 or end > len(self.data):
            raise _damaged("an offset points outside of the file")
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise _damaged("parts of it overlap again and again")
        self.extent.end = max(self.extent.end, end)

    def u32(self, position: int) -> int:
        self.spend(position, 4)
        return int(struct.unpack_from("<I", self.data, position)[0])

    def table(self, reader: type, position: int) -> None:
        self.tables_left -= 1
        if self.tables_left < 0:
            raise _damaged("it has more tables than a file of its size can hold")
        self.spend(position, 4)
        vtable = position - struct.unpack_from("<i", self.data, position)[0]
        self.spend(vtable, 4)
        vtable_size, table_size = struct.unpack_from("<HH", self.data, vtable)
        if vtable_size < 4 or vtable_size % 2 or table_size < 4:
            raise _damaged("a table's layout makes no sense")
        self.spend(vtable, vtable_size)
        self.spend(position, table_size)
        offsets = struct.unpack_from(f"<{vtable_size // 2 - 2}H", self.data, vtable + 4)
        known = _fields(reader)
        for index, offset in enumerate(offsets):
            if not offset:
                continue
            entry = known.get(4 + 2 * index)
            if entry is None:
                if 4 + 2 * index > max(known, default=0):  # lower gaps are fields that the schema calls deprecated
                    self.extent.unknown.add(f"{reader.__name__} field {index}")
                continue
            self.field(reader, entry, position, position + offset)

    def field(self, reader: type, entry: _Field, table: int, position: int) -> None:
        if entry.kind == _SCALAR:
            self.spend(position, entry.width)
            return
        target = position + self.u32(position)
        if entry.kind == _TABLE:
            assert entry.table is not None
            self.table(entry.table, target)
        elif entry.kind == _UNION:
            self.union(reader, entry, table, target)
        elif entry.kind in (_NUMBERS, _STRING):
            self.spend(target + 4, self.u32(target) * (entry.width if entry.kind == _NUMBERS else 1))
        else:
            self.vector(entry, target)

    def vector(self, entry: _Field, position: int) -> None:
        count = self.u32(position)
        self.spend(position + 4, 4 * count)
        for element in range(position + 4, position + 4 + 4 * count, 4):
            target = element + int(struct.unpack_from("<I", self.data, element)[0])
            if entry.kind == _STRINGS:
                self.spend(target + 4, self.u32(target))
            else:
                assert entry.table is not None
                self.table(entry.table, target)

    def union(self, reader: type, entry: _Field, table: int, target: int) -> None:
        type_method, enum_name = _UNIONS.get(entry.name, ("", ""))
        if not type_method:
            self.extent.unknown.add(f"{reader.__name__} {entry.name}")
            return
        instance = reader()
        instance.Init(self.data, table)
        code = int(getattr(instance, type_method)())
        names = {value: name for name, value in vars(getattr(self.schema, enum_name)).items() if isinstance(value, int)}
        if code and code not in names:
            self.extent.unknown.add(f"{enum_name} {code}")
        elif code:
            self.table(getattr(self.schema, names[code]), target)


def verify(data: bytes, schema: Any) -> Extent:
    """Check every offset and length in `data`, a .tflite with the identifier TFL3. `schema`: LiteRT's generated module.

    Raises RefusedError where the object API could read outside of the file, loop or allocate without bound.
    """
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise RefusedError("not a .tflite model: its identifier TFL3 is missing", hint="give a converter's output")
    verifier = _Verifier(data, schema)
    try:
        verifier.table(schema.Model, verifier.u32(0))
    except struct.error as error:
        raise _damaged("an offset points outside of the file") from error
    return verifier.extent


def _damaged(what: str) -> RefusedError:
    return RefusedError(f"damaged .tflite model: {what}", hint="get the file again, or convert the model again")
