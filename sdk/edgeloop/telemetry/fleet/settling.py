"""When the fleet's latency is folded: ahead of who looks, as far as that takes little time."""

from __future__ import annotations

import threading
import time

from edgeloop.telemetry.fleet.row import RowState

SETTLE_S = 0.005
"""At a turn it is folded so long at most."""
MANY_REPORTS = 100
"""Of one turn: then nothing is folded unless somebody looked lately, as the ingest needs the interpreter."""
LATELY_S = 10.0


class Settling:
    """The rows whose latency waits to be folded. lock: the fleet's, which guards the rows and is held by the caller of
    everything but `settle`."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._waiting: dict[int, RowState] = {}
        self._looked_s = float("-inf")

    def add(self, state: RowState) -> None:
        self._waiting[state.id] = state

    def drop(self, row_id: int) -> None:
        self._waiting.pop(row_id, None)

    def looked_at(self) -> None:
        """Somebody reads latencies now."""
        self._looked_s = time.monotonic()

    def settle(self, came: int) -> None:
        """Fold some of it, so that who looks need not: that may be an event loop. came: reports of this turn."""
        began_s = time.monotonic()
        if came > MANY_REPORTS and began_s - self._looked_s > LATELY_S:
            return
        while self._waiting and time.monotonic() - began_s < SETTLE_S:
            with self._lock:
                if self._waiting:
                    self._waiting.pop(next(iter(self._waiting))).settle()
