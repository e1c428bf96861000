"""What a model saw, drawn over the picture: labels, boxes, masks, keypoints. Places are in the picture's own pixels."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from edgeloop.postprocess import NO_CLASS

if TYPE_CHECKING:
    from edgeloop.postprocess import Mask, Result

    Picture = npt.NDArray[np.uint8]

LEAST_KEYPOINT_SCORE = 0.2
_MASK_SHARE = 0.45
_BACKGROUND = 0  # by convention of the common segmentation models
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(picture: Picture, result: Result) -> Picture:
    """A copy of the picture, uint8 [H, W, 3] BGR, with the result over it."""
    out: Picture = picture.copy()
    unit = max(1.0, min(out.shape[:2]) / 480)  # text and lines as large as the picture lets them be
    if result.mask is not None:
        _draw_mask(out, result.mask)
    for found in result.detections:
        color = color_of(found.class_id)
        left, top, right, bottom = (round(x) for x in found.box)
        cv2.rectangle(out, (left, top), (right, bottom), color, max(1, round(2 * unit)))
        _write(out, f"{found.label or found.class_id} {found.score:.2f}", left, top, unit, color)
    for i, point in enumerate(result.keypoints):
        if point.score >= LEAST_KEYPOINT_SCORE:
            cv2.circle(out, (round(point.x), round(point.y)), round(3 * unit), color_of(i), -1, cv2.LINE_AA)
    y = 0
    for line, color in _lines(result):
        y = _write(out, line, 0, y, unit, color)
    return out


def _lines(result: Result) -> list[tuple[str, tuple[int, int, int]]]:
    lines = [(f"{c.label or c.class_id} {c.score:.2f}", color_of(c.class_id)) for c in result.top]
    if result.mask is not None:
        lines += [(f"{c.label or c.class_id} {c.share:.0%}", color_of(c.class_id)) for c in result.mask.shares[:5]]
    if result.anomaly is not None:
        limit = "" if result.anomaly.threshold is None else f" of {result.anomaly.threshold:.3g}"
        lines.append((f"anomaly {result.anomaly.score:.3g}{limit}", color_of(0 if result.anomaly.is_anomalous else 2)))
    if result.reused:
        lines.append(("reused", (160, 160, 160)))
    return lines


def _draw_mask(out: Picture, mask: Mask) -> None:
    classes = mask.at_picture(*out.shape[:2])
    table = np.array([color_of(i) for i in range(256)], np.uint8)
    painted = cv2.addWeighted(out, 1 - _MASK_SHARE, table[classes], _MASK_SHARE, 0.0)
    shown = (classes != _BACKGROUND) & (classes != NO_CLASS)
    out[shown] = painted[shown]


def _write(out: Picture, text: str, x: int, y: int, unit: float, color: tuple[int, int, int]) -> int:
    """Text on a dark ground, its upper left corner at (x, y) but inside the picture; the y below it."""
    text = text.encode("ascii", "replace").decode()  # all that OpenCV's fonts have
    scale, thick = 0.5 * unit, max(1, round(unit))
    (width, height), base = cv2.getTextSize(text, _FONT, scale, thick)
    x = max(0, min(x, out.shape[1] - width))
    y = max(0, min(y, out.shape[0] - height - base))
    cv2.rectangle(out, (x, y), (x + width, y + height + base), (32, 32, 32), -1)
    cv2.putText(out, text, (x, y + height), _FONT, scale, color, thick, cv2.LINE_AA)
    return int(y + height + base)


@lru_cache(maxsize=1024)
def color_of(class_id: int) -> tuple[int, int, int]:
    """BGR, the same for a class everywhere; neighbors differ (golden ratio around the color circle)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.6180339887 % 1.0, 0.75, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)
