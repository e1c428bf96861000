"""CBOR from a stranger: a gate that decides what the library gets to see, in front of cbor2.

Accepted is the plain subset our own encoder writes (RFC 8949, preferred serialization): integers up to 64 bits, byte
and UTF-8 strings, arrays, maps with integer or text keys, false, true, null, finite floats; definite lengths in their
shortest form. Refused are tags (and with them dates, bignums, shared references and every decoder with side effects),
indefinite lengths, undefined and other simple values, NaN and infinities, duplicate keys, lengths beyond the input,
deep nesting, anything left over. So cbor2's versions, C or pure Python, cannot differ in what they make of it.
"""

from __future__ import annotations

import struct
from math import isfinite

import cbor2

from edgeloop.errors import DataError

_FLOAT_FORMATS = {25: ">e", 26: ">f", 27: ">d"}


def loads(data: bytes, *, what: str, max_bytes: int, max_depth: int = 6, max_items: int = 20_000) -> object:
    """The one value in `data`. `what` names it in errors ("report"). DataError for anything outside the subset."""
    if len(data) > max_bytes:
        raise DataError(f"{what} of {len(data)} bytes is larger than {max_bytes}")
    gate = _Gate(data, what, max_depth, max_items)
    end = gate.check(0, 0)
    if end != len(data):
        raise DataError(f"{what} has {len(data) - end} bytes too many")
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise DataError(f"{what} is not valid CBOR: {type(error).__name__}") from None
    return value


def dumps(value: object) -> bytes:
    """CBOR of plain values, map keys in the order given."""
    return bytes(cbor2.dumps(value))


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
