"""Whether two results of one frame mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

_ALIKE = 0.9
"""Boxes, masks and keypoints that agree less than this are others."""
_VALUE_TOLERANCE = 0.05
"""Raw outputs that are closer than this share of the largest value are the same."""


def differs(a: Result, b: Result) -> bool:
    """Whether somebody who reads the results would be told something else: another best class, other boxes, values."""
    from edgeloop.postprocess.agreement import decided_alike

    alike = decided_alike(a, b)
    if alike is not None:
        return alike < _ALIKE
    if len(a.values) != len(b.values):
        return True
    for x, y in zip(a.values, b.values, strict=True):
        if x.shape != y.shape:
            return True
        if x.size and float(abs(x - y).max()) > _VALUE_TOLERANCE * max(float(abs(x).max()), float(abs(y).max())):
            return True
    return False
