"""A device in this process that the test drives: makes reports, delivers when told, and knows every byte it made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.simulation.devices import make_report
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.store.rows import StoredReport
from edgeloop.telemetry.transports import Transport
from edgeloop.telemetry.wire.codec import encode_report
from support.faults import Key, Ledger


class Reporter:
    """A boot of one device. `clock`: what it believes the time is."""

    def __init__(
        self, spool: ReportSpool, transport: Transport, device: str = "pi-1", *,
        timeout_s: float = 10.0, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.device, self.spool = device, spool
        self.courier = Courier(spool, transport, timeout_s=timeout_s)
        self.bodies: dict[Key, bytes] = {}
        self.kept: set[Key] = set()
        self.errors: list[str] = []
        self._clock = clock
        self.boot = os.urandom(8).hex()
        self._seq = 0
        self.uptime_s = 0.0

    def make(self, count: int = 1, **changes: object) -> list[Report]:
        """So many reports into the spool, a second apart; one that it refuses is in `bodies` and not in `kept`."""
        made = []
        for _ in range(count):
            self._seq += 1
            self.uptime_s += 1.0
            now_s = self._clock()
            report = make_report(0, 1, self._seq, self.boot, time_s=now_s, uptime_s=self.uptime_s, period_s=1.0)
            report = replace(report, device=self.device, **changes)
            key = report.boot, report.seq
            self.bodies[key] = encode_report(report)
            try:
                self.spool.put(self.bodies[key], *key)
                self.kept.add(key)
            except EdgeloopError as error:
                self.errors.append(str(error))
            made.append(report)
        return made

    def deliver(self) -> bool:
        """Try once; whether all is delivered."""
        outcome = self.courier.deliver()
        if outcome.error is not None:
            self.errors.append(outcome.error.message)
        return outcome.done

    def deliver_all(self, give_up_s: float = 120.0, longest_wait_s: float = 0.2) -> None:
        """Until all is delivered, with waits cut short."""
        until_s = time.monotonic() + give_up_s
        while not self.deliver():
            assert time.monotonic() < until_s, self.errors[-3:]
            time.sleep(min(self.courier.delay_s, longest_wait_s))

    @property
    def ledger(self) -> Ledger:
        return Ledger(frozenset(self.bodies), frozenset(self.kept))

    def wrong(self, stored: Iterable[StoredReport]) -> int:
        """Stored reports of this device that are not, byte for byte, what it made."""
        mine = [each.report for each in stored if each.report.device == self.device]
        return sum(self.bodies.get((report.boot, report.seq)) != encode_report(report) for report in mine)
