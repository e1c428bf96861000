"""How sure a result is, and whether two results of one frame mean the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

_ALIKE = 0.9
"""Boxes, masks and keypoints that agree less than this are others."""
_VALUE_TOLERANCE = 0.05
"""Raw outputs that are closer than this share of the largest value are the same."""


def confidence(result: Result) -> float | None:
    """0..1 for a classification (0 where no class reaches the contract's threshold), None for anything else.

    The best class's score where the scores can be probabilities (each in 0..1, the best few at most 1 together); else
    they are taken for logits: the probability of the best of the first two.
    """
    top = result.top
    if not top:
        return 0.0 if result.kind == "classification" else None
    best = top[0].score
    if top[-1].score >= 0.0 and sum([c.score for c in top]) <= 1.01:
        return best
    if len(top) == 1:
        return None
    margin = best - top[1].score
    return 1.0 / (1.0 + math.exp(-min(margin, 700.0))) if margin == margin else 0.0


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
