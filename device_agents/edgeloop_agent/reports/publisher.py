"""Reports from the supervisor to the collector: into the spool at once, out of it on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.codec import encode_report
from edgeloop.telemetry.delivery import Courier
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.spool import Spool
from edgeloop.telemetry.transports import Transport, open_transport

_HELD_REPORTS = 64
"""So many are kept in memory while the disk under the spool takes none."""
_CLOSING_RETRY_S = 0.2
_DEFECT_RETRY_S = 60.0


class Publisher:
    """An `Outlet` to one collector. What it cannot deliver now stays in the spool for the next run."""

    def __init__(self, spool: Spool, transport: Transport, tell: Callable[[str], None]) -> None:
        self._spool = spool
        self._transport = transport
        self._courier = Courier(spool, transport)
        self._tell = tell
        self._held: deque[tuple[bytes, str, int]] = deque(maxlen=_HELD_REPORTS)
        self._counts: Counter[str] = Counter()
        self._trouble = ""
        self._spool_trouble = ""
        self._wake = threading.Event()
        self._closing_by_s: float | None = None
        self._thread = threading.Thread(target=self._deliver_until_closed, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, report: Report) -> None:
        """See `Outlet.submit`: on the disk when this returns, or held in memory and counted as refused."""
        try:
            body = encode_report(report)
        except EdgeloopError as error:
            self._counts["lost"] += 1
            self._tell(f"warning: a report cannot be encoded: {error.message}")
            return
        if len(self._held) == _HELD_REPORTS:
            self._counts["lost"] += 1
        self._held.append((body, report.boot, report.seq))
        self._spool_held()
        self._wake.set()

    def gauges(self) -> dict[str, float]:
        """See `Outlet.gauges`."""
        try:
            stats = self._spool.stats()
        except EdgeloopError:
            return {}
        return {"spool_reports": float(stats.reports), "spool_bytes": float(stats.bytes)}

    def state(self) -> dict[str, Any]:
        """For `edgeloop-agent status`: the totals, and why nothing can be delivered or kept at present."""
        return {**self.totals(), "trouble": self._trouble or self._spool_trouble}

    def totals(self) -> dict[str, int]:
        """Reports delivered and rejected in this run (older ones from the spool too), waiting there now, and lost."""
        try:
            waiting = self._spool.stats().reports + len(self._held)
        except EdgeloopError:
            waiting = len(self._held)
        return {
            "delivered": self._counts["delivered"],
            "waiting": waiting,
            "rejected": self._counts["rejected"],
            "lost": self._counts["lost"],
        }

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, for `timeout_s` at most. What the disk still does not take is lost then, and counted."""
        self._closing_by_s = time.monotonic() + timeout_s
        self._wake.set()
        self._thread.join(timeout_s + _CLOSING_RETRY_S)
        if self._held:
            self._spool_held()
        if self._held:
            self._counts["lost"] += len(self._held)
            self._tell(f"warning: {len(self._held)} reports are lost: {self._spool_trouble}")
            self._held.clear()
        if not self._thread.is_alive():  # else it still waits for an answer: the process ends without it
            self._transport.close()

    def _spool_held(self) -> None:
        try:
            while self._held:
                self._spool.put(*self._held[0])
                self._held.popleft()
            self._spool_trouble = ""
        except EdgeloopError as error:
            if not self._spool_trouble:
                self._tell(f"warning: a report cannot be kept on disk: {error.message}")
            self._spool_trouble = error.message

    def _deliver_until_closed(self) -> None:
        while True:
            # What is submitted from here on wakes the thread again, so nothing is left behind.
            self._wake.clear()
            closing_by_s = self._closing_by_s
            budget_s = None if closing_by_s is None else closing_by_s - time.monotonic()
            if budget_s is not None and budget_s <= 0:
                return
            delay_s, done = self._deliver(budget_s)
            if closing_by_s is not None and done:
                return
            self._pause(delay_s)

    def _deliver(self, budget_s: float | None) -> tuple[float | None, bool]:
        """Try once. (seconds until the next try, None: when there is something new; whether all is delivered)."""
        try:
            outcome = self._courier.deliver(budget_s)
        except EdgeloopError as error:  # the spool's own trouble
            self._note(error.message)
            return _DEFECT_RETRY_S, False
        except Exception as error:  # a defect must not end telemetry for good
            self._note(f"{type(error).__name__}: {error}")
            return _DEFECT_RETRY_S, False
        self._counts["delivered"] += outcome.accepted
        self._counts["rejected"] += outcome.rejected
        self._note(outcome.error.message if outcome.error is not None else "")
        return (self._courier.delay_s if outcome.error is not None else None), outcome.done

    def _note(self, trouble: str) -> None:
        """Say once that the collector is away, and once that it is back."""
        if trouble and not self._trouble:
            self._tell(f"telemetry: {trouble}; reports are kept")
        elif self._trouble and not trouble:
            self._tell("telemetry: the collector is back, reports are delivered")
        self._trouble = trouble

    def _pause(self, delay_s: float | None) -> None:
        """Until there is something to do: a new report, or with `delay_s` the time of the next try; or the end."""
        until_s = None if delay_s is None else time.monotonic() + delay_s
        while True:
            if self._closing_by_s is not None:
                if delay_s is not None:
                    time.sleep(_CLOSING_RETRY_S)
                return
            left_s = None if until_s is None else until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            if self._wake.wait(left_s) and until_s is None:
                return
            self._wake.clear()


def open_publisher(url: str, spool_path: Path, tell: Callable[[str], None]) -> Publisher:
    """Raises UsageError for a wrong URL, DeviceError where the spool cannot be opened. Does not connect."""
    transport = open_transport(url)
    return Publisher(Spool(spool_path, on_notice=tell), transport, tell)
