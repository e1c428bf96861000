"""What a store needs done beside the ingest: folding reports into roll-ups, deleting what is old enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.retention import Retention, delete_old
from edgeloop.telemetry.store.rollups import Scope, fold, waiting

EVERY_S = 5.0
_ALL_STEP = 2000
_DEVICE_STEP = 10_000
_DEVICE_EVERY_S = 600.0
"""Devices are folded when a whole step waits, or after so long: each step writes the rows of all that reported."""
_PAUSE_S = 0.05
"""Between two steps, so that the ingest gets its turn."""


@dataclass
class Upkeep:
    """A thread that does it until `stop()`. say: told of a defect, once."""

    database: Database
    retention: Retention = field(default_factory=Retention)
    say: Callable[[str], None] | None = None
    clock: Callable[[], float] = time.time
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _devices_due_s: float = field(default=0.0, repr=False)

    def start(self) -> None:
        self._devices_due_s = time.monotonic() + _DEVICE_EVERY_S
        self._thread = threading.Thread(target=self._run, name="store upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """May be called twice. What is not folded yet is read from the reports, so nothing has to be finished."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def run_once(self) -> None:
        """All that is due now."""
        while fold(self.database, Scope.ALL, _ALL_STEP) == _ALL_STEP and self._go_on():
            pass
        due = time.monotonic() >= self._devices_due_s
        while self._go_on():
            if not due and waiting(self.database, Scope.DEVICE) < _DEVICE_STEP:
                break
            if fold(self.database, Scope.DEVICE, _DEVICE_STEP) < _DEVICE_STEP:
                self._devices_due_s = time.monotonic() + _DEVICE_EVERY_S
                break
        while delete_old(self.database, self.retention, self.clock()) and self._go_on():
            pass

    def _go_on(self) -> bool:
        return not self._stopping.wait(_PAUSE_S)

    def _run(self) -> None:
        told = False
        while not self._stopping.wait(EVERY_S):
            try:
                self.run_once()
            except Exception as error:  # locked or full for now, or a defect: the next turn tries again
                if self.say is not None and not told and not isinstance(error, StoreUnavailableError):
                    told = True
                    self.say(f"the store's upkeep failed and is tried again: {str(error)[:200]}")
