"""Points in time as people write them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

from edgeloop.errors import UsageError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_time(text: str, now_s: float, flag: str = "--since") -> float:
    """`90m`, `2h`, `7d` ago, an ISO 8601 date or time (local unless it says otherwise) or unix seconds: as unix time.

    Raises UsageError for anything else.
    """
    ago = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", text)
    if ago:
        return now_s - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        number = float(text)
        if math.isfinite(number) and number >= 0:
            return number
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{flag}: not a time: {text!r}", hint="for example 2h, 7d or 2026-05-31T08:00") from None


def iso(time_s: float) -> str:
    """Unix time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(time_s, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
