"""How sure a result is: what a cascade decides by, on the device and where its trade is measured."""

from __future__ import annotations

import math

from edgeloop.postprocess.results import Result

KINDS = ("classification", "detection")
"""Output kinds that have one."""


def confidence(result: Result, *, of_nothing: float | None = 0.0) -> float | None:
    """0..1 for a classification (0 where no class reaches the contract's threshold) and a detection, None for anything
    else. Of a detection it is the best score; of_nothing: where it found nothing.

    The best class's score where the scores can be probabilities (each in 0..1, the best few at most 1 together); else
    they are taken for logits: the probability of the best of the first two.
    """
    top = result.top
    if result.kind == "detection":
        return max((found.score for found in result.detections), default=of_nothing)
    if not top:
        return 0.0 if result.kind == "classification" else None
    best = top[0].score
    if top[-1].score >= 0.0 and sum([c.score for c in top]) <= 1.01:
        return best
    if len(top) == 1:
        return None
    margin = best - top[1].score
    return 1.0 / (1.0 + math.exp(-min(margin, 700.0))) if margin == margin else 0.0
