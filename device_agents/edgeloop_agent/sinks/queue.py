"""Lines that wait for a far end which may be slow or away: bounded, the oldest leave first, a thread sends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop_agent.sinks.lines import result_line
from edgeloop_agent.sources.live import backoff_s

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

DEFAULT_QUEUE = 1000
LAST_CHANCE_S = 1.0


class Outlet(Protocol):
    """A far end that is connected."""

    def send(self, line: str) -> None:
        """Raises OSError (or a library's own kind) where it did not arrive."""

    def close(self) -> None: ...


class QueuedLines:
    """A Sink in front of an Outlet. connect: raises where the far end is away; tried again after 0.5, 1 ... 30 s."""

    wants_frame = False
    closed = False

    def __init__(self, name: str, connect: Callable[[], Outlet], limit: int = DEFAULT_QUEUE) -> None:
        self.lines = self.lost = 0
        self.problem = ""
        self._name = name
        self._connect = connect
        self._limit = limit
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        line = result_line(source, time_s, result, latency_ms)
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(line)
            self._changed.notify()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        deadline_s = time.monotonic() + LAST_CHANCE_S
        while self._waiting and not self.problem and time.monotonic() < deadline_s:
            time.sleep(0.01)
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(max(0.1, deadline_s - time.monotonic()))
        with self._changed:
            self.lost += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        failed = 0
        while not self._closing:
            try:
                outlet = self._connect()
                try:
                    while self._send_next(outlet):
                        failed, self.problem = 0, ""
                finally:
                    with contextlib.suppress(Exception):
                        outlet.close()
            except Exception as error:  # OSError and what a library raises beside it
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                self.problem = f"{self._name}: {reason}; up to {self._limit} results wait"
                failed += 1
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, backoff_s(failed))

    def _send_next(self, outlet: Outlet) -> bool:
        """False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                return False
            line = self._waiting[0]
        outlet.send(line)
        with self._changed:
            if self._waiting and self._waiting[0] is line:  # it may have made room meanwhile, and counts as lost
                self._waiting.popleft()
                self.lines += 1
        return True
