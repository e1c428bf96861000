"""Hit rates of the caches, from counters."""

from __future__ import annotations

from edgeloop.telemetry.hit_rates import hit_rates, hit_rates_text


def test_a_rate_is_hits_over_accesses_and_a_cache_that_nobody_asked_has_none() -> None:
    rates = hit_rates({"frames": 9, "cache_hits_l1": 3, "cache_misses_l1": 1, "cache_misses_l3": 1, "cache_hits_l2": 0})
    assert rates == {"l1": {"hits": 3, "misses": 1, "rate": 0.75}, "l3": {"hits": 0, "misses": 1, "rate": 0.0}}
    assert hit_rates_text(rates) == "L1 75%, L3 0%" and hit_rates_text({}) == ""
