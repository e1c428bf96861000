"""A device's end of the telemetry: a report goes into the spool at once, and out of it when `deliver` is called.

The agent calls `deliver` on a thread of its own, `simulate` on a few threads for thousands of devices.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.clock import SentAt
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.delivery.ways import Way, Ways
from edgeloop.telemetry.report import MAX_EVENTS, Event, Report
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.transports import Transport
from edgeloop.telemetry.wire.codec import encode_report

_HELD_REPORTS = 64
"""So many are kept in memory while the disk under the spool takes none."""
_DEFECT_RETRY_S = 60.0
_TOLD_AS = {"lost": "reports_refused", "rejected": "reports_quarantined"}


class Outbox:
    """One device's reports on their way to one collector. Nothing here raises: what fails is told, counted and tried
    again. `submit` is for one thread, `deliver` for another."""

    def __init__(
        self,
        spool: ReportSpool,
        transport: Transport | Sequence[Way],
        tell: Callable[[str], None],
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        """transport: or several ways, in order; that another one is used goes into the next report as an event, which
        `on_event` gets in the thread that submits."""
        self._spool = spool
        self._ways: Ways | None = None
        self._courier: Courier | Ways
        if isinstance(transport, Sequence):
            self._courier = self._ways = Ways(spool, transport, sent_at=self._sent_at)
        else:
            self._courier = Courier(spool, transport, sent_at=self._sent_at)
        self._on_event = on_event
        self._events: deque[Event] = deque()
        self._carried = 0
        self._newest: tuple[Report, float] | None = None
        self._tell = tell
        self._held: deque[tuple[bytes, str, int]] = deque(maxlen=_HELD_REPORTS)
        self._counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._trouble = ""
        self._spool_trouble = ""

    def submit(self, report: Report) -> None:
        """In the spool when this returns, or held in memory and counted as refused."""
        report = self._with_counts(self._with_news(report))
        self._newest = report, time.monotonic()
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

    def deliver(self, budget_s: float | None = None) -> tuple[float | None, bool]:
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
        self._carried = outcome.carried
        self._tell_of_ways()
        self._note(outcome.error.message if outcome.error is not None else "")
        return (self._courier.delay_s if outcome.error is not None else None), outcome.done

    @property
    def used(self) -> Way | None:
        """The way in use; None where there is no choice."""
        return None if self._ways is None else self._ways.used

    def give_up_held(self) -> None:
        """The end: what the disk still does not take is lost, and counted."""
        self._spool_held()
        if self._held:
            self._counts["lost"] += len(self._held)
            self._tell(f"warning: {len(self._held)} reports are lost: {self._spool_trouble}")
            self._held.clear()

    def gauges(self) -> dict[str, float]:
        """How much waits, for a report."""
        try:
            stats = self._spool.stats()
        except EdgeloopError:
            return {}
        return {"spool_reports": float(stats.reports), "spool_bytes": float(stats.bytes)}

    def state(self) -> dict[str, Any]:
        """The totals, and why nothing can be delivered or kept at present ("" when it can). Of several ways the one in
        use, and how many of those that wait lie on a stick there."""
        way = {} if self._ways is None else {"way": self._ways.used.name, "carried": self._carried}
        return {**self.totals(), "trouble": self._trouble or self._spool_trouble, **way}

    def let_go(self) -> None:
        """The spool is another outbox's from now on; nothing here works any more, and nothing is told of that."""
        self._tell = lambda _line: None
        self._spool.end()

    def totals(self) -> dict[str, int]:
        """Reports delivered and rejected since the start (older ones from the spool too), waiting now, and lost."""
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

    def _tell_of_ways(self) -> None:
        for kind, detail in () if self._ways is None else self._ways.take_news():
            self._events.append(Event(kind, time.time(), detail))
            self._tell(f"{kind}: {detail}")
            self._trouble = ""  # told with it

    def _with_counts(self, report: Report) -> Report:
        """With what became of reports since the last one: a loss is seen in the fleet, not on the device alone."""
        counters = dict(report.counters)
        for name, counter in _TOLD_AS.items():
            if since := self._counts[name] - self._told[name]:
                self._told[name] += since
                counters[counter] = counters.get(counter, 0) + since
        return report if counters == report.counters else replace(report, counters=counters)

    def _with_news(self, report: Report) -> Report:
        counts = {} if self._ways is None else self._ways.take_counts()
        events = [self._events.popleft() for _ in range(len(self._events))]
        for event in events:
            self._on_event(event)
        if not counts and not events:
            return report
        return replace(report, events=(*report.events, *events)[-MAX_EVENTS:], counters={**report.counters, **counts})

    def _sent_at(self) -> SentAt | None:
        """The clocks now: the uptime counts on from the newest report's."""
        if self._newest is None:
            return None
        report, made_s = self._newest
        return SentAt(report.boot, max(time.time(), 0.0), report.uptime_s + time.monotonic() - made_s)

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

    def _note(self, trouble: str) -> None:
        """Say once that the collector is away, and once that it is back."""
        if trouble and not self._trouble:
            self._tell(f"telemetry: {trouble}; reports are kept")
        elif self._trouble and not trouble:
            self._tell("telemetry: the collector is back, reports are delivered")
        self._trouble = trouble
