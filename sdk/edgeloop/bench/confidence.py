"""How sure a median is."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist

_EXACT_UP_TO = 1000


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """(low, high) that covers the true median with at least `confidence`; None for too few samples (under 6 for 95 %).

    Order statistics: with the k-th smallest and k-th largest of n, the cover is 1 - 2 * P(Binomial(n, 1/2) < k),
    whatever the distribution is (Conover, Practical Nonparametric Statistics, 3rd ed. 1999, 3.2; Le Boudec, Performance
    Evaluation, 2010, theorem 2.1). The largest such k, beyond 1000 samples by the normal approximation. It takes
    samples for independent: a clock that drifts while it is measured makes the truth wider.
    """
    n = len(samples)
    if n > _EXACT_UP_TO:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        k = int(n / 2 - z * sqrt(n) / 2)
    else:
        k = _rank(n, confidence)
    if k < 1:
        return None
    ordered = sorted(samples)
    return ordered[k - 1], ordered[n - k]


def _rank(n: int, confidence: float) -> int:
    tail, k = 0.0, 0
    while k < n // 2:
        tail += comb(n, k) / (1 << n)
        if 1 - 2 * tail < confidence:
            break
        k += 1
    return k
