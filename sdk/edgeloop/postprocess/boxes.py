"""Boxes in the formats that models give, as corners, and in source pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeloop.decoding import DetectionSettings
from edgeloop.geometry import Placement

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]

_LOG_MAX = 30.0  # a side of e^30 anchors is wrong already, and finite
_X_FIRST = ("xyxy", "cxcywh")
_BY_CENTER = ("cycxhw", "cxcywh")


def corners_of(boxes: Floats, settings: DetectionSettings) -> Floats:
    """[n, 4] in the contract's format to (y0, x0, y1, x1) in fractions of the model's input."""
    a, b, c, d = boxes.T
    if settings.box_format in _X_FIRST:
        a, b, c, d = b, a, d, c
    if settings.box_format in _BY_CENTER:
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    y, x = settings.extent
    return np.stack([a / y, b / x, c / y, d / x], axis=1).astype(np.float32, copy=False)


def corners_by_anchors(numbers: Floats, anchors: Floats, settings: DetectionSettings) -> Floats:
    """SSD's box coder: a box is an offset to its anchor's center and a logarithm of its sides' ratio.

    numbers: [n, 4] offsets, y before x unless the contract's format says otherwise; anchors: [n, 4] (cy, cx, h, w).
    """
    if settings.box_format in _X_FIRST:
        numbers = numbers[:, [1, 0, 3, 2]]
    offsets = numbers / np.asarray(settings.box_scales, np.float32)
    centers = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
    halves = np.exp(np.minimum(offsets[:, 2:], _LOG_MAX)) * anchors[:, 2:] / 2
    corners: Floats = np.concatenate([centers - halves, centers + halves], axis=1)
    return corners


def to_source(boxes: Floats, place: Placement) -> Floats:
    """(y0, x0, y1, x1) in fractions to (left, top, right, bottom) in source pixels, cut to the picture."""
    scale = np.asarray([place.x_scale, place.y_scale] * 2, np.float32)
    offset = np.asarray([place.x_offset, place.y_offset] * 2, np.float32)
    limit = np.asarray([place.width, place.height] * 2, np.float32)
    cut: Floats = np.clip(boxes[:, [1, 0, 3, 2]] * scale + offset, 0, limit)
    return cut
