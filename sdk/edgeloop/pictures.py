"""Picture files as the host's data loaders, the agent's folder source and the copy between the two see them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def read_picture(path: str) -> npt.NDArray[Any] | None:
    """uint8 [H, W, 3] BGR; None when it cannot be decoded. Raises cv2.error, for example above OpenCV's pixel limit.

    OpenCV's Python binding takes names in UTF-8 only and crashes the process at any other (seen with 5.0.0), so a file
    with such a name is read here and decoded from memory.
    """
    import cv2

    try:
        path.encode()
    except UnicodeEncodeError:
        return _decode_from_memory(path)
    return cv2.imread(path, cv2.IMREAD_COLOR)


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


def _decode_from_memory(path: str) -> npt.NDArray[Any] | None:
    import cv2
    import numpy as np

    try:
        with Path(path).open("rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
