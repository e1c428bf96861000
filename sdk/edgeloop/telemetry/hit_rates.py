"""Hit rates of the agent's caches, from its counters: L1 results, L2 opened models, L3 verified bundles on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEVELS = ("l1", "l2", "l3")


def hit_rates(counters: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """{level: {"hits", "misses", "rate"}} of the levels that were asked at all; rate = hits / (hits + misses)."""
    found = {}
    for level in LEVELS:
        hits, misses = (int(counters.get(f"cache_{what}_{level}", 0)) for what in ("hits", "misses"))
        if hits or misses:
            found[level] = {"hits": hits, "misses": misses, "rate": hits / (hits + misses)}
    return found


def hit_rates_text(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """`L1 63.7%, L2 100%`; empty where no cache was asked."""
    return ", ".join(f"{level.upper()} {100 * rate['rate']:.3g}%" for level, rate in rates.items())
