"""What time it is, where a board without a battery for its clock starts in 1970 and the network may not tell it yet."""

from __future__ import annotations

from datetime import datetime, timezone

from edgeloop.version import BUILT

_BUILT = datetime.fromisoformat(BUILT).replace(tzinfo=timezone.utc)


def reference_time(now: datetime) -> datetime:
    """What metadata's expiry is compared with: this agent was built before anything it can be told now. A clock that
    is ahead is believed: it can only refuse what is still good."""
    return max(now, _BUILT)


def is_behind(now: datetime) -> bool:
    """Whether the clock stands before this agent was built."""
    return now < _BUILT
