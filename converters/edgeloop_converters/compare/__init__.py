"""Two models or bundles beside each other: size, ops, placement, quality, latency, and what may not get worse."""

from __future__ import annotations

from edgeloop_converters.compare.fail_on import Term, parse_fail_on
from edgeloop_converters.compare.run import CompareResult, compare

__all__ = ["CompareResult", "Term", "compare", "parse_fail_on"]
