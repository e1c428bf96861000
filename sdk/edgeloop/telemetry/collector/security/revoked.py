"""The names that were revoked, for ways in that do not ask who sends: serial lines, a broker, sticks, loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from sqlalchemy import select

from edgeloop.telemetry.collector.security.identity import KEPT_S
from edgeloop.telemetry.collector.security.records import reading
from edgeloop.telemetry.collector.security.registry import REVOKED
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.registry import REGISTRY


@dataclass
class RevokedNames:
    """Asked of the store every KEPT_S. Safe between threads."""

    database: Database
    monotonic: Callable[[], float] = time.monotonic
    _names: frozenset[str] = frozenset()
    _until_s: float = field(default=float("-inf"), repr=False)

    def __call__(self) -> Collection[str]:
        """As they were last known where the store is away: nothing is committed then, either."""
        now_s = self.monotonic()
        if now_s >= self._until_s:
            self._until_s = now_s + KEPT_S
            try:
                with reading(self.database) as connection:
                    chosen = select(REGISTRY.c.device).where(REGISTRY.c.status == REVOKED)
                    self._names = frozenset(connection.execute(chosen).scalars())
            except StoreUnavailableError:
                self._until_s = now_s
        return self._names
