"""golden.npz: arrays in a form where every byte is known beforehand from the manifest, but for the values.

`numpy.load` reads these files, but is not what reads them here: it would unpickle if told to, and allocates what a
header asks for. Here the header of every array must be byte for byte the one that its manifest entry calls for.

Source: the NPY format, version 1.0 (numpy.lib.format).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeloop.bundle.archive import FIXED_DATE, FIXED_MODE, STORED, open_archive
from edgeloop.bundle.limits import GOLDEN, MAX_GOLDEN_ARRAYS
from edgeloop.bundle.manifest import GOLDEN_DTYPES, GoldenArray
from edgeloop.errors import RefusedError

if TYPE_CHECKING:
    from edgeloop.affine import Array

_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGNMENT_BYTES = 64


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The one header that an array of this dtype and shape may have: C order, little endian, padded to 64 bytes."""
    inner = "".join(f"{n}, " for n in shape).rstrip(" ") if len(shape) == 1 else ", ".join(str(n) for n in shape)
    text = f"{{'descr': '{GOLDEN_DTYPES[dtype][0]}', 'fortran_order': False, 'shape': ({inner}), }}"
    length = len(_MAGIC) + 2 + len(text) + 1
    padding = -length % _ALIGNMENT_BYTES
    body = f"{text}{' ' * padding}\n".encode("ascii")
    return _MAGIC + len(body).to_bytes(2, "little") + body


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name, little endian and C order, as an uncompressed .npz."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            descr = GOLDEN_DTYPES[array.dtype.name][0]
            content = npy_header(array.dtype.name, array.shape) + np.ascontiguousarray(array, dtype=descr).tobytes()
            file.writestr(fixed_zip_info(f"{name}.npy"), content)
    return buffer.getvalue()


def read_npz(raw: bytes, arrays: tuple[GoldenArray, ...]) -> dict[str, Array]:
    """The arrays that the manifest lists, all of them and nothing else. Raises RefusedError before it allocates any."""
    import numpy as np

    def read_at(offset: int, size: int) -> bytes:
        if offset + size > len(raw):
            raise RefusedError(f"{GOLDEN}: cut short")
        return raw[offset : offset + size]

    archive = open_archive(read_at, len(raw), method=STORED, max_members=MAX_GOLDEN_ARRAYS, what=GOLDEN)
    if set(archive.members) != {f"{a.array}.npy" for a in arrays}:
        raise RefusedError(f"{GOLDEN}: its arrays are not the ones that the manifest lists")
    headers = {a.array: npy_header(a.dtype, a.shape) for a in arrays}
    for array in arrays:
        member = archive.members[f"{array.array}.npy"]
        header = headers[array.array]
        if member.size != len(header) + array.data_bytes:
            raise RefusedError(f"{GOLDEN}: array {array.array} has not the size that the manifest gives it")
        if read_at(member.data_offset, len(header)) != header:
            raise RefusedError(f"{GOLDEN}: array {array.array} has not the type and shape that the manifest gives it")
    result: dict[str, Array] = {}
    for array in arrays:
        content = archive.read(f"{array.array}.npy", len(raw))
        flat = np.frombuffer(content, dtype=GOLDEN_DTYPES[array.dtype][0], offset=len(headers[array.array]))
        result[array.array] = flat.reshape(array.shape)
    return result


def fixed_zip_info(name: str) -> zipfile.ZipInfo:
    """A zip entry without anything of the time, machine or user that made it."""
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.create_system = 3
    info.external_attr = FIXED_MODE << 16
    return info
