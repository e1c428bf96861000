"""Element types of .tflite tensors: their names, their numpy forms and how their bytes are packed.

Types numpy does not have are held as codes: bfloat16 as uint16, float8 as uint8. int4, uint4 and int2 are packed in the
file (the first element in the lowest bits) and held unpacked, as int8 or uint8. Strings, resources and variants are
held as raw bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ElementType:
    """`numpy`: what `Tensor.data` has; None where the bytes have no fixed element size. `bits`: size of one element in
    the file.
    """

    numpy: np.dtype[np.generic] | None
    bits: int


def _plain(name: str) -> ElementType:
    dtype = np.dtype(name)
    return ElementType(dtype, dtype.itemsize * 8)


ELEMENT_TYPES: Mapping[str, ElementType] = {
    "float32": _plain("float32"),
    "float16": _plain("float16"),
    "int32": _plain("int32"),
    "uint8": _plain("uint8"),
    "int64": _plain("int64"),
    "string": ElementType(None, 8),
    "bool": _plain("bool"),
    "int16": _plain("int16"),
    "complex64": _plain("complex64"),
    "int8": _plain("int8"),
    "float64": _plain("float64"),
    "complex128": _plain("complex128"),
    "uint64": _plain("uint64"),
    "resource": ElementType(None, 8),
    "variant": ElementType(None, 8),
    "uint32": _plain("uint32"),
    "uint16": _plain("uint16"),
    "int4": ElementType(np.dtype("int8"), 4),
    "bfloat16": ElementType(np.dtype("uint16"), 16),
    "int2": ElementType(np.dtype("int8"), 2),
    "uint4": ElementType(np.dtype("uint8"), 4),
    "float8_e4m3fn": ElementType(np.dtype("uint8"), 8),
    "float8_e5m2": ElementType(np.dtype("uint8"), 8),
}
"""By the schema's own name in lower case."""

FLOAT_TYPES = frozenset({"float32", "float16", "float64", "bfloat16"})


def element_count(shape: tuple[int, ...]) -> int:
    """Elements of a tensor; 1 for a scalar. A dimension that is not known (-1) counts as 1, as the runtime has it."""
    return math.prod(1 if extent < 0 else extent for extent in shape)


def byte_count(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a dense tensor in a file or in memory."""
    return -(-element_count(shape) * ELEMENT_TYPES[dtype].bits // 8)


def unpack(raw: Bytes, dtype: str, shape: tuple[int, ...]) -> Array | None:
    """A dense array of `shape` from a buffer's bytes, not copied where the type allows; None where they do not fit."""
    kind = ELEMENT_TYPES[dtype]
    if kind.numpy is None or min(shape, default=0) < 0 or raw.size != byte_count(dtype, shape):
        return None
    if kind.bits >= 8:
        return raw.view(kind.numpy).reshape(shape)
    return _unpack_bits(raw, kind, element_count(shape)).reshape(shape)


def pack(data: Array, dtype: str) -> Bytes:
    """The bytes of a dense array as the file has them; the inverse of `unpack`."""
    kind = ELEMENT_TYPES[dtype]
    flat = np.ascontiguousarray(data).reshape(-1)
    if kind.bits >= 8:
        return flat.view(np.uint8)
    per_byte = 8 // kind.bits
    codes = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    codes[: flat.size] = flat.view(np.uint8) & ((1 << kind.bits) - 1)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(kind.bits)
    packed: Bytes = np.bitwise_or.reduce(codes.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8)
    return packed


def _unpack_bits(raw: Bytes, kind: ElementType, count: int) -> Array:
    assert kind.numpy is not None
    per_byte = 8 // kind.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(kind.bits)
    codes: Bytes = (raw[:, None] >> shifts).reshape(-1)[:count] & np.uint8((1 << kind.bits) - 1)
    if kind.numpy.kind == "i":
        sign = np.uint8(1 << (kind.bits - 1))
        codes = (codes ^ sign) - sign  # two's complement of `bits` bits, carried into the byte by uint8 wrap-around
    return codes.view(kind.numpy)
