"""CBOR from a stranger: a gate that decides what the library gets to see, in front of cbor2.

Accepted is the plain subset our own encoder writes (RFC 8949, preferred serialization): integers up to 64 bits, byte
and UTF-8 strings, arrays, maps with integer or text keys, false, true, null, finite floats; definite lengths in their
shortest form. Refused are tags (and with them dates, bignums, shared references and every decoder with side effects),
indefinite lengths, undefined and other simple values, NaN and infinities, duplicate keys, lengths beyond the input,
deep nesting, anything left over. So cbor2's versions, C or pure Python, cannot differ in what they make of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import cbor2

from edgeloop.errors import DataError

_FLOAT_FORMATS = {25: ">e", 26: ">f", 27: ">d"}


def loads(data: bytes, *, what: str, max_bytes: int, max_depth: int = 6, max_items: int = 20_000) -> object:
    """The one value in `data`. `what` names it in errors ("report"). DataError for anything outside the subset."""
    if len(data) > max_bytes:
        raise DataError(f"{what} of {len(data)} bytes is larger than {max_bytes}")
    items = _plain_items(data)
    if 0 < items <= max_items:
        try:
            quick: object = cbor2.loads(data)
        except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError):
            items = 0
        if items and _items_of(quick, max_depth) == items:
            return quick
    gate = _Gate(data, what, max_depth, max_items)
    end = gate.check(0, 0)
    if end != len(data):
        raise DataError(f"{what} has {len(data) - end} bytes too many")
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise DataError(f"{what} is not valid CBOR: {type(error).__name__}") from None
    return value


def reload(data: bytes) -> Mapping[Any, Any]:
    """The map in `data` that `loads` accepted before."""
    value: Mapping[Any, Any] = cbor2.loads(data)
    return value


def dumps(value: object) -> bytes:
    """CBOR of plain values, map keys in the order given."""
    return bytes(cbor2.dumps(value))


# -- the quick door: takes only what the gate would take, and leaves all else, and the words for it, to the gate


def _sizes() -> tuple[int, ...]:
    """Bytes of an item by its first byte, where that alone says it, a container counting as its head; else 0."""
    sizes = [0] * 256
    for argument in range(24):
        sizes[argument] = sizes[0x20 | argument] = 1
        sizes[0x40 | argument] = sizes[0x60 | argument] = 1 + argument
    for simple in (0xF4, 0xF5, 0xF6):
        sizes[simple] = 1
    return tuple(sizes)


_SIZES = _sizes()
_CONTAINERS = frozenset({dict, list, tuple})
_MAX_CONTAINERS = 100  # bounds how deep cbor2 can get, before the depth is known


def _plain_items(data: bytes) -> int:
    """How many items stand in `data` one after another, a container's head counting as one. 0 when there is one that
    the gate would refuse by itself (a tag, not the shortest form, ...) or that is too rare to be judged here.

    Says nothing of how they are nested: `_items_of` does, as a value that used up all of them has the same number.
    """
    position, items, containers, end = 0, 0, 0, len(data)
    try:
        while position < end:
            first = data[position]
            items += 1
            if size := _SIZES[first]:
                position += size
            elif first in (0x18, 0x38):
                if data[position + 1] < 24:
                    return 0
                position += 2
            elif first in (0x58, 0x78):
                length = data[position + 1]
                if length < 24:
                    return 0
                position += 2 + length
            elif first in (0x19, 0x39):
                if not data[position + 1]:
                    return 0
                position += 3
            elif first in (0x1A, 0x3A):
                if not (data[position + 1] or data[position + 2]):
                    return 0
                position += 5
            elif first in (0x1B, 0x3B):
                if data[position + 1 : position + 5] == b"\0\0\0\0":
                    return 0
                position += 9
            elif 0x80 <= first <= 0x97 or 0xA0 <= first <= 0xB7:
                containers += 1
                position += 1
            elif first in (0x98, 0xB8):
                if data[position + 1] < 24:
                    return 0
                containers += 1
                position += 2
            elif first in (0x59, 0x79):
                length = data[position + 1] << 8 | data[position + 2]
                if length < 256:
                    return 0
                position += 3 + length
            elif first == 0xFB:
                if data[position + 1] & 0x7F == 0x7F and data[position + 2] >= 0xF0:
                    return 0
                position += 9
            else:
                return 0
    except IndexError:
        return 0
    return items if position == end and containers <= _MAX_CONTAINERS else 0


def _items_of(value: object, levels: int) -> int:
    """Items of a decoded value; negative when it is nested deeper than `levels` or has a key that is none of ours.

    A key that came twice, or bytes behind the value, make this less than what stood in the data.
    """
    if type(value) not in _CONTAINERS:
        return 1
    if not levels:
        return -(2**32)
    assert isinstance(value, (dict, list, tuple))
    items = 1 + len(value)
    parts: Iterable[object] = value
    if isinstance(value, dict):
        if not {int, str}.issuperset(map(type, value)):
            return -(2**32)
        items += len(value)
        parts = value.values()
    for part in parts:
        if type(part) in _CONTAINERS:
            items += _items_of(part, levels - 1) - 1
    return items


class _Gate:
    def __init__(self, data: bytes, what: str, max_depth: int, items_left: int) -> None:
        self._data, self._what, self._max_depth, self._items_left = data, what, max_depth, items_left

    def check(self, position: int, depth: int) -> int:
        """Checks the item at `position`; the position behind it."""
        data = self._data
        self._items_left -= 1
        if self._items_left < 0:
            raise self._refuse("has too many items")
        if position >= len(data):
            raise self._refuse("is cut short")
        major, info = data[position] >> 5, data[position] & 31
        position += 1
        argument = info
        if info > 27:
            raise self._refuse("has a length of unknown size")
        if info >= 24:
            size = 1 << (info - 24)
            raw = data[position : position + size]
            if len(raw) < size:
                raise self._refuse("is cut short")
            if major == 7:
                return self._check_simple(info, raw, position + size)
            argument = int.from_bytes(raw, "big")
            position += size
            if argument < (24 if size == 1 else 1 << (4 * size)):
                raise self._refuse("has a number that is not in its shortest form")
        if major <= 1:
            return position
        if major == 7:
            if info not in (20, 21, 22):
                raise self._refuse(f"has the simple value {info}")
            return position
        if major == 6:
            raise self._refuse(f"has the tag {argument}")
        left = len(data) - position
        if major <= 3:
            if argument > left:
                raise self._refuse("is cut short")
            return position + argument
        if argument * (major - 3) > left:  # every element takes a byte at least, a map's entry two
            raise self._refuse("is cut short")
        if depth >= self._max_depth:
            raise self._refuse(f"is nested deeper than {self._max_depth}")
        return (
            self._check_array(argument, position, depth) if major == 4 else self._check_map(argument, position, depth)
        )

    def _check_simple(self, info: int, raw: bytes, end: int) -> int:
        if info not in _FLOAT_FORMATS:
            raise self._refuse("has an unknown simple value")
        if not isfinite(struct.unpack(_FLOAT_FORMATS[info], raw)[0]):
            raise self._refuse("has a number that is not finite")
        return end

    def _check_array(self, length: int, position: int, depth: int) -> int:
        for _ in range(length):
            position = self.check(position, depth + 1)
        return position

    def _check_map(self, length: int, position: int, depth: int) -> int:
        keys: set[bytes] = set()
        for _ in range(length):
            if position < len(self._data) and self._data[position] >> 5 not in (0, 1, 3):
                raise self._refuse("has a key that is neither an integer nor text")
            end = self.check(position, depth + 1)
            keys.add(self._data[position:end])  # shortest forms only, so equal keys are equal bytes
            position = self.check(end, depth + 1)
        if len(keys) != length:
            raise self._refuse("has a key twice")
        return position

    def _refuse(self, why: str) -> DataError:
        return DataError(f"{self._what} {why}")
