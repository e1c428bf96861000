"""Reports from the supervisor to the collector: into the spool at once, out of it on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edgeloop.telemetry.commands.correspondence import CorrespondingTransport
from edgeloop.telemetry.delivery.carrying import Carrier
from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.delivery.ways import Way, open_ways
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import Transport
from edgeloop_agent.commands.executor import Executor
from edgeloop_agent.reports.spool_place import SpoolPlace

_CLOSING_RETRY_S = 0.2
_ANSWERS_RETRY_S = 5.0


class Publisher:
    """An `Outlet` to one collector. What it cannot deliver now stays in the spool for the next run."""

    def __init__(
        self,
        spool: ReportSpool,
        transport: Transport | Sequence[Way],
        tell: Callable[[str], None],
        commands: Executor | None = None,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        """commands: gets what an operator asks, and its answers go out with the reports. on_event: see `Outbox`."""
        ways = transport if isinstance(transport, Sequence) else [Way("", transport)]
        if commands is not None:
            ways = [_corresponding(way, commands) for way in ways]
            commands.mailbox.on_put = self.wake
        self._ways = ways
        self._outbox = Outbox(spool, ways, tell, on_event)
        self._wake = threading.Event()
        self._closing_by_s: float | None = None
        self._thread = threading.Thread(target=self._deliver_until_closed, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, report: Report) -> None:
        """See `Outlet.submit`: on the disk when this returns, or held in memory and counted as refused."""
        self._outbox.submit(report)
        self._wake.set()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def gauges(self) -> dict[str, float]:
        """See `Outlet.gauges`."""
        return self._outbox.gauges()

    def state(self) -> dict[str, Any]:
        """For `edgeloop-agent status`: the totals, and why nothing can be delivered or kept at present."""
        return self._outbox.state()

    def totals(self) -> dict[str, int]:
        """See `Outbox.totals`."""
        return self._outbox.totals()

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, for `timeout_s` at most. What the disk still does not take is lost then, and counted."""
        self._closing_by_s = time.monotonic() + timeout_s
        self._wake.set()
        self._thread.join(timeout_s + _CLOSING_RETRY_S)
        self._outbox.give_up_held()
        waits = self._thread.is_alive()  # for an answer: the process ends without it
        for way in self._ways:
            if not waits:
                way.transport.close()
            elif isinstance(way.transport, CorrespondingTransport):
                way.transport.hang_up()  # or the next run does, and finds the line taken

    def let_go(self) -> None:
        """After `close` and the last `totals`: the next run's publisher takes the spool. A thread that still waits for
        an answer finds it gone."""
        self._outbox.let_go()

    def _deliver_until_closed(self) -> None:
        while True:
            # What is submitted from here on wakes the thread again, so nothing is left behind.
            self._wake.clear()
            closing_by_s = self._closing_by_s
            budget_s = None if closing_by_s is None else closing_by_s - time.monotonic()
            if budget_s is not None and budget_s <= 0:
                return
            delay_s, done = self._outbox.deliver(budget_s)
            if done and not self._post_answers(budget_s):
                delay_s, done = _ANSWERS_RETRY_S, False
            if closing_by_s is not None and done:
                return
            self._pause(delay_s)

    def _post_answers(self, budget_s: float | None) -> bool:
        """Also true where only a stick is left to carry them: they wait for another way."""
        transport = self._outbox.used.transport if self._outbox.used is not None else None
        return not isinstance(transport, CorrespondingTransport) or transport.post_answers(budget_s)

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


def _corresponding(way: Way, commands: Executor) -> Way:
    if isinstance(way.transport, Carrier):
        return way
    transport = CorrespondingTransport(way.transport, commands.mailbox, commands.take, commands.take_chunk)
    return replace(way, transport=transport)


def open_publisher(
    urls: Sequence[str],
    device: str,
    place: SpoolPlace,
    tell: Callable[[str], None],
    commands: Executor | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> Publisher:
    """urls: in order of preference. Raises UsageError for a wrong one, DeviceError where the spool cannot be opened.
    Does not connect."""
    ways = open_ways(urls, device, place.path.parent)
    spool = Spool(place.path, max_bytes=place.max_bytes, max_age_s=place.max_age_s, on_notice=tell)
    return Publisher(spool, ways, tell, commands, on_event)
