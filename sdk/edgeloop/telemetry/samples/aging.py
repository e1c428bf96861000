"""Hard samples are wiped when they are old enough, where the collector was told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.samples.keeping import SampleKeeper, SampleQuery

_EVERY_S = 600.0
_DAY_S = 86400.0


@dataclass
class SampleAging:
    """A thread that looks every ten minutes, from its start until `stop()`. say: told of a trouble, once."""

    keeper: SampleKeeper
    audit: Audit
    days: float
    say: Callable[[str], None]
    _stopping: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="samples aging", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def run_once(self) -> int:
        """How many were old enough."""
        gone = self.keeper.delete(SampleQuery(before_s=self.keeper.clock() - self.days * _DAY_S))
        if gone:
            self.audit.add("collector", "samples.expire", origin="--retain-samples", count=gone)
        return gone

    def _run(self) -> None:
        told = False
        while True:
            try:
                self.run_once()
            except (EdgeloopError, OSError) as error:
                if not told:
                    self.say(f"hard samples could not be wiped, which is tried again: {error}")
                told = True
            if self._stopping.wait(_EVERY_S):
                return
