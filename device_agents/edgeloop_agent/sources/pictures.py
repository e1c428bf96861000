"""From what a camera delivers to a picture that can be inferred on: decoded, not empty, of a steady size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgeloop.errors import DataError
from edgeloop.pictures import decode_picture
from edgeloop_agent.sources.live import Say

if TYPE_CHECKING:
    from edgeloop_agent.sources import Wanted

NEW_SIZE_AFTER = 3
"""So many frames in a row of another size are no accident."""


class Pictures:
    """A Decode for cameras: JPEG bytes or uint8 [H, W, 3] BGR to the latter; RGB where the model takes a tensor.

    Raises DataError for a picture that is damaged or empty, and for the first two of another size than those before.
    """

    def __init__(self, name: str, wanted: Wanted, *, asked: tuple[int, int] | None = None) -> None:
        """asked: (width, height) that the camera was asked for."""
        self._name = name
        self._to_rgb = wanted.input.kind == "tensor"
        self._at_least = wanted.input.decode_size
        self._size = asked if self._at_least is None else None  # pictures may come out at a fraction of their size
        self._was_seen = False
        self._others = 0

    def __call__(self, item: Any, say: Say) -> Any:
        frame = decode_picture(item, self._name, self._at_least) if isinstance(item, bytes) else item
        if not isinstance(frame, np.ndarray) or frame.size == 0:
            raise DataError(f"source {self._name}: an empty frame")
        self._check_size((frame.shape[1], frame.shape[0]), say)
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if self._to_rgb and frame.ndim == 3 else frame

    def _check_size(self, size: tuple[int, int], say: Say) -> None:
        if size == self._size:
            self._was_seen, self._others = True, 0
            return
        self._others += 1
        if self._size is not None and self._was_seen and self._others < NEW_SIZE_AFTER:
            raise DataError(f"source {self._name}: a frame of {_x(size)} where the others are {_x(self._size)}")
        if self._size is not None:
            what = "the frames were" if self._was_seen else "asked for were"
            say(
                "frame_size", f"{self._name}: frames are {_x(size)}, {what} {_x(self._size)}; they are used as they are"
            )
        self._size, self._was_seen, self._others = size, True, 0


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
