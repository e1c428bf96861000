"""What a store needs done beside the ingest: folding reports into roll-ups, deleting what is old enough."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from edgeloop.telemetry.store import StoreUnavailableError, upkeep_process
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.retention import Retention, delete_old
from edgeloop.telemetry.store.rollups import Scope, fold, waiting

EVERY_S = 5.0
_AWAY = (StoreUnavailableError, OperationalError)
"""Locked, full or gone for now: the ingest says so."""
_ALL_STEP = 2000
_DEVICE_STEP = 10_000
_DEVICE_EVERY_S = 600.0
"""Devices are folded when a whole step waits, or after so long: each step writes the rows of all that reported."""
_PAUSE_S = 0.05
"""Between two steps, so that the ingest gets its turn."""
MUCH = 5000
"""Reports that wait to be folded at a turn: more are left to a process of its own."""


@dataclass
class Upkeep:
    """A thread that does it until `stop()`, and leaves it to a process once there is much to do. say: told of a defect,
    once."""

    database: Database
    retention: Retention = field(default_factory=Retention)
    say: Callable[[str], None] | None = None
    clock: Callable[[], float] = time.time
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _devices_due_s: float = field(default=0.0, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _alone: bool = field(default=False, repr=False)
    """A process of its own came to nothing."""

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
        """All that is due now, unless another collector of this store is at it."""
        with self.database.upkeep_turn() as mine:
            if mine:
                self._do_what_is_due()

    def _do_what_is_due(self) -> None:
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
        try:
            while not self._stopping.wait(EVERY_S):
                try:
                    if not self._is_left_to_a_process():
                        self.run_once()
                except Exception as error:  # locked or full for now, or a defect: the next turn tries again
                    if self.say is not None and not told and not isinstance(error, _AWAY):
                        told = True
                        self.say(f"the store's upkeep failed and is tried again: {str(error)[:200]}")
        finally:
            if self._process is not None:
                upkeep_process.end(self._process)

    def _is_left_to_a_process(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            self._process, self._alone = None, True  # here it shows why
        if self._process is None and not self._alone and waiting(self.database, Scope.ALL) >= MUCH:
            try:
                self._process = upkeep_process.start(self.database, self.retention)
            except OSError:
                self._alone = True
        return self._process is not None


def keep_up(database: Database, retention: Retention) -> None:
    """Do it in this process, until it is killed or something is wrong that another turn does not mend."""
    upkeep = Upkeep(database, retention, _devices_due_s=time.monotonic() + _DEVICE_EVERY_S)
    while True:
        with suppress(StoreUnavailableError, OperationalError):
            upkeep.run_once()
        time.sleep(EVERY_S)
