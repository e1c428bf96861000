"""Non-maximum suppression: of boxes that show the same thing, the best stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def suppress(boxes: Floats, scores: Floats, classes: npt.NDArray[np.intp], iou: float, limit: int) -> list[int]:
    """Indices of what stays, best score first, at most `limit`; boxes of different classes do not touch each other.

    boxes: [n, 4] as (y0, x0, y1, x1). Greedy, as in TFLite_Detection_PostProcess: a box goes when it overlaps a better
    one that stays by more than `iou` (intersection over union).
    """
    order = np.argsort(-scores, kind="stable")
    y0, x0, y1, x1 = boxes[order].T
    areas = np.maximum(y1 - y0, 0) * np.maximum(x1 - x0, 0)
    height = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    width = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    common = np.maximum(height, 0) * np.maximum(width, 0)
    # Multiplied out: two boxes without area do not overlap, and nothing is divided by 0.
    hides = (common > iou * (areas[:, None] + areas - common)) & (classes[order][:, None] == classes[order])
    hidden = np.zeros(len(order), np.bool_)
    kept: list[int] = []
    for i, original in enumerate(order.tolist()):
        if hidden[i]:
            continue
        kept.append(original)
        if len(kept) == limit:
            break
        hidden |= hides[i]
    return kept
