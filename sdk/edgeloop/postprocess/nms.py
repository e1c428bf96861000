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
    kinds = classes[order]
    alive = np.arange(len(order))
    kept: list[int] = []
    while len(alive) and len(kept) < limit:
        first, rest = alive[0], alive[1:]
        kept.append(int(order[first]))
        height = np.minimum(y1[first], y1[rest]) - np.maximum(y0[first], y0[rest])
        width = np.minimum(x1[first], x1[rest]) - np.maximum(x0[first], x0[rest])
        common = np.maximum(height, 0) * np.maximum(width, 0)
        together = areas[first] + areas[rest] - common
        # Multiplied out: two boxes without area do not overlap, and nothing is divided by 0.
        alive = rest[(common <= iou * together) | (kinds[rest] != kinds[first])]
    return kept
