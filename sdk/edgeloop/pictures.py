"""Picture files as the host's data loaders and the agent's folder source read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


def read_picture(path: str) -> npt.NDArray[Any] | None:
    """uint8 [H, W, 3] BGR; None when it cannot be decoded. Raises cv2.error, for example above OpenCV's pixel limit.

    OpenCV's Python binding takes names in UTF-8 only and crashes the process at any other (seen with 5.0.0), so a file
    with such a name is read here and decoded from memory.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return _decode_from_memory(path)
    return cv2.imread(path, cv2.IMREAD_COLOR)


def may_hold_a_picture(entry: os.DirEntry[str]) -> bool:
    """False for what is there but no ordinary file: reading a pipe or a device never ends."""
    try:
        return entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True  # a link to nowhere: said when it is read


def _decode_from_memory(path: str) -> npt.NDArray[Any] | None:
    try:
        with Path(path).open("rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
