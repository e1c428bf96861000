"""Whether a frame shows something that those before did not: calibration wants many scenes, not one many times.

Pictures are compared as the gate does it, by thumbnails in blocks; arrays by their values. Against all that were kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

DIFFERENT_LEVELS = 6.0
"""Levels of 255 by which one block of a picture must differ; of an array one value, 255 being the largest so far."""
_LIGHT_FACTOR = 2.0  # the same scene in another light counts from so many times that on
_LOOKED_AT = 4096  # values of an array


class Variety:
    """For one thread. `is_new` remembers what it calls new."""

    def __init__(self, least_levels: float = DIFFERENT_LEVELS) -> None:
        """least_levels 0: everything is new, but for exact copies."""
        self._least = least_levels
        self._kept: dict[tuple[int, ...], list[tuple[npt.NDArray[np.float32], float]]] = {}
        self._peak = 1e-30

    def is_new(self, frame: Any) -> bool:
        blocks, mean, unit = self._thumbnail(frame)
        known = self._kept.setdefault(blocks.shape, [])
        least, light = self._least * unit, self._least * _LIGHT_FACTOR * unit
        for other, other_mean in reversed(known):  # the latest are the likeliest
            if abs(mean - other_mean) <= light and float(np.abs(blocks - other).max()) <= least:
                return False
        known.append((blocks, mean))
        return True

    def _thumbnail(self, frame: Any) -> tuple[npt.NDArray[np.float32], float, float]:
        """(values, their mean apart, how much one level is)."""
        if is_picture(frame):
            from edgeloop_agent.activation.gate import (
                thumbnail_of,  # OpenCV, which boards for sensors alone do not have
            )

            small = thumbnail_of(frame)
            return small.blocks, small.mean, 1.0
        parts = [frame[name] for name in sorted(frame)] if isinstance(frame, Mapping) else [frame]
        flat = np.concatenate([np.asarray(part, np.float32).reshape(-1) for part in parts])
        flat = np.ascontiguousarray(flat[:: -(-flat.size // _LOOKED_AT)])[None]
        self._peak = max(self._peak, float(np.abs(flat).max(initial=0.0)))
        return flat, 0.0, self._peak / 255.0


def is_picture(frame: Any) -> bool:
    """uint8 [H, W] or [H, W, 1, 3 or 4], of more than a line."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        return False
    return min(frame.shape[:2]) > 1 and frame.shape[2:] in ((), (1,), (3,), (4,))
