"""Token buckets: so many at once, so many per second after that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from edgeloop.telemetry.collector.limits import Rate

_MAX_KEYS = 20_000


@dataclass
class Buckets:
    """One bucket for each key. Keys may be strangers': the one that was used longest ago is forgotten first, which is
    full again in most cases. Safe between threads."""

    rate: Rate
    _levels: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait_s(self, key: str, now_s: float, *, cost: float = 1.0) -> float:
        """0.0 when `cost` was taken, else how long until there is as much; nothing is taken then."""
        with self._lock:
            level, at_s = self._levels.pop(key, (self.rate.burst, now_s))
            level = min(level + max(now_s - at_s, 0.0) * self.rate.per_s, self.rate.burst)
            short = cost - level
            self._levels[key] = (level if short > 0 else level - cost, now_s)
            if len(self._levels) > _MAX_KEYS:
                self._levels.popitem(last=False)
        return short / self.rate.per_s if short > 0 else 0.0

    def give_back(self, key: str, *, cost: float = 1.0) -> None:
        """What was taken was not used up: a try that succeeded."""
        with self._lock:
            if key in self._levels:
                level, at_s = self._levels[key]
                self._levels[key] = (min(level + cost, self.rate.burst), at_s)
