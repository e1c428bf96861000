"""How latencies are written for people."""

from __future__ import annotations

import math

_DIGITS = 3
_MOST_DECIMALS = 4
"""What a profile keeps of a millisecond."""


def milliseconds(*values: float) -> tuple[str, ...]:
    """Each of `values`, in ms and with the unit, all with as many decimals as the smallest needs for three digits:
    0.0793 and 0.1 are 0.0793 ms and 0.1000 ms.
    """
    smallest = min((abs(value) for value in values if value), default=1.0)
    decimals = min(_MOST_DECIMALS, max(0, _DIGITS - 1 - math.floor(math.log10(smallest))))
    return tuple(f"{value:.{decimals}f} ms" for value in values)
