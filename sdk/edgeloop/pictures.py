"""Picture files as the host's data loaders, the agent's folder source and the copy between the two see them."""

from __future__ import annotations

import os
import re
import stat
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")  # neither stuffing nor a marker without a segment

_JPEG_FRAMES = tuple(bytes([n]) for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC))  # ITU T.81, table B.1

_OPENCV_SILENT = 0
_PIECE_BYTES = 1 << 16  # larger ones come from the kernel anew each time


def read_picture(path: str, at_least: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """uint8 [H, W, 3] BGR. Raises DataError for what cannot be read or decoded, and for a JPEG that was cut off.

    at_least: (height, width) that are enough: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, see `reduction`.
    The file is read here and decoded from memory: cv2.imread takes half of a JPEG for all of it, and crashes the
    process at a name that is not UTF-8 (seen with 5.0.0).
    """
    try:
        data = _content(path)
    except OSError as error:
        raise DataError(f"image {path}: {error.strerror}") from error
    if not data:
        raise DataError(f"image {path}: the file is empty")
    return decode_picture(data, f"image {path}", at_least)


def decode_picture(data: bytes, name: str, at_least: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """A picture file's bytes to uint8 [H, W, 3] BGR; `name` begins every error. Raises DataError as `read_picture`."""
    import cv2
    import numpy as np

    if is_cut_off(data):
        raise DataError(f"{name}: damaged: it was cut off, the end of the JPEG is missing")
    _silence()
    try:
        flag = cv2.IMREAD_COLOR if at_least is None else _reading(cv2, data, at_least)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:  # e.g. larger than OpenCV's pixel limit
        raise DataError(f"{name}: {' '.join(str(error).split())[:200]}") from error
    if picture is None:
        raise DataError(f"{name}: damaged, or not an image")
    return np.asarray(picture)


def reduction(data: bytes, at_least: tuple[int, int]) -> int:
    """1, 2, 4 or 8: by how much a JPEG can be smaller and still be as large as `at_least`, either way up; else 1."""
    size = _jpeg_size(data)
    if size is None:
        return 1
    return next((by for by in (8, 4, 2) if min(size) >= by * max(at_least)), 1)


def _reading(cv2: Any, data: bytes, at_least: tuple[int, int]) -> int:
    by = reduction(data, at_least)
    return int(cv2.IMREAD_COLOR if by == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{by}"))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) as the frame header says; None for what is no JPEG or has none."""
    if data[:2] != _JPEG_BEGINS:
        return None
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        if found[1] in _JPEG_FRAMES:
            header = data[found.end() + 3 : found.end() + 7]
            return int.from_bytes(header[:2], "big"), int.from_bytes(header[2:], "big")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")  # past its segment
    return None


@cache
def _silence() -> None:
    """No warning lines of OpenCV's own beside the error, unless the user asked for them by OPENCV_LOG_LEVEL.

    Once per process: it costs a tenth of what decoding a small picture does.
    """
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # 4.x or 5.0
        set_level(_OPENCV_SILENT)


def _content(path: str) -> bytes:
    """The file's bytes. By hand: a file object costs a twentieth of what decoding a small picture does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        piece = os.read(descriptor, _PIECE_BYTES)
        if len(piece) < _PIECE_BYTES:  # of an ordinary file that is all there is
            return piece
        pieces = [piece]
        while piece := os.read(descriptor, _PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def is_cut_off(data: bytes) -> bool:
    """Whether this is a JPEG without its end. Anything may follow the end, as cameras append things."""
    if data[-2:] == _JPEG_ENDS or data[:2] != _JPEG_BEGINS:
        return False
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        if found[1] == _JPEG_ENDS[1:]:
            return False
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")  # past its segment
    return True


def pictures_below(root: str) -> list[str]:
    """Paths relative to `root` of all pictures below it, sorted. Raises DataError for a folder that cannot be read.

    Hidden files and folders, pipes, devices and links to nowhere do not count; links to folders are not followed.
    """
    names: list[str] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            entries = list(os.scandir(f"{root}/{prefix}"))
        except OSError as error:
            if not prefix:
                raise DataError(f"source folder:{root}: {error.strerror}") from error
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{prefix}{entry.name}/")
            elif entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                names.append(prefix + entry.name)
    if not names:
        raise DataError(f"source folder:{root}: no images here", hint=f"read are {', '.join(IMAGE_SUFFIXES)}")
    return sorted(names)


def may_hold_a_picture(entry: os.DirEntry[str]) -> bool:
    """False for what is there but no ordinary file: reading a pipe or a device never ends."""
    try:
        return entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True  # a link to nowhere: said when it is read


def bits_per_channel(path: str) -> int:
    """Of a PNG or a TIFF by its header; 8 where that does not say it, and for all others. Never raises."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(26)
            if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
                return head[24]
            if head[:4] not in _TIFF_BEGINS:
                return 8
            order = _TIFF_BEGINS[head[:4]]
            file.seek(struct.unpack(f"{order}I", head[4:8])[0])
            (count,) = struct.unpack(f"{order}H", file.read(2))
            for tag, _, values, value in struct.iter_unpack(f"{order}HHI4s", file.read(12 * count)):
                if tag == _BITS_PER_SAMPLE:
                    if values > 2:  # these stand elsewhere
                        file.seek(struct.unpack(f"{order}I", value)[0])
                        value = file.read(2)
                    return int(struct.unpack(f"{order}H", value[:2])[0])
    except (OSError, struct.error, IndexError):
        pass
    return 8


def exif_orientation(path: str) -> int:
    """1 to 8 of a JPEG by its EXIF tag (1: as it lies); 1 where there is none, and for all others. Never raises."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_PIECE_BYTES + 16)
        at = 2
        while data[:2] == _JPEG_BEGINS and data[at] == 0xFF and data[at + 1] not in _JPEG_FRAMES_OR_SCAN:
            if data[at + 1] == _APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
                return _orientation(data[at + 10 :])
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    except (OSError, struct.error, IndexError, KeyError):
        pass
    return 1


def _orientation(tiff: bytes) -> int:
    order = _TIFF_BEGINS[tiff[:4]]
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    for i in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * i)
        if tag == _ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1


_TIFF_BEGINS = {b"II*\0": "<", b"MM\0*": ">"}
_BITS_PER_SAMPLE = 258
_ORIENTATION = 274
_APP1 = 0xE1
_JPEG_FRAMES_OR_SCAN = frozenset((0xC0, 0xC1, 0xC2, 0xDA))
