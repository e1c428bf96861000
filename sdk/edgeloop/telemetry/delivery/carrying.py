"""Reports that somebody carries: their acknowledgement comes days later, or never. ADR 0154.

A report stays in the spool until it is acknowledged, whichever way that comes. What lies on the carrier is read from
the carrier itself: with another stick, an emptied one or a new process it starts over, and a report is written once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from edgeloop.errors import DeviceError
from edgeloop.telemetry.delivery.courier import DeliveryOutcome, choose_batch, retry_delay_s
from edgeloop.telemetry.spool.policy import ROW_OVERHEAD_BYTES, ReportSpool, SpooledReport
from edgeloop.telemetry.transports import Transport
from edgeloop.telemetry.wire.codec import MAX_BATCH, Ack

_SHARE = 2
"""Half of a spool's bytes are out on a carrier at most: what is out cannot be folded, and may stay out for ever."""


@dataclass(frozen=True)
class Brought:
    """An acknowledgement that came back. name: the carrier's, by which it is forgotten."""

    name: str
    ack: Ack


@runtime_checkable
class Carrier(Transport, Protocol):
    """A way on which nobody answers at once. Every method raises NotAcknowledgedError when it is not there."""

    def look(self) -> bool:
        """Sees what lies on it now; whether something is gone that was there at the last look (then it must be gone
        through from the oldest report on)."""

    def brought(self) -> Sequence[Brought]:
        """Acknowledgements that lie on it."""

    def forget(self, brought: Collection[Brought]) -> None:
        """These are settled in the spool."""

    def holds(self, body: bytes) -> bool:
        """Whether an encoded report lies on it, by the last look."""

    def put(self, bodies: Sequence[bytes]) -> None:
        """Writes reports; they are safe there when this returns."""

    def clear(self) -> None:
        """Removes all reports that lie on it: they arrived in another way."""


def fitting(batch: Sequence[SpooledReport], room_bytes: int) -> tuple[Sequence[SpooledReport], int]:
    """The longest beginning of which what was never sent takes `room_bytes` at most, and how much it takes."""
    need_bytes = 0
    for count, report in enumerate(batch):
        more_bytes = 0 if report.sends else len(report.body) + ROW_OVERHEAD_BYTES
        if more_bytes and need_bytes + more_bytes > room_bytes:
            return batch[:count], need_bytes
        need_bytes += more_bytes
    return batch, need_bytes


class CarryingCourier:
    """As `delivery.Courier`, for a carrier. For one thread."""

    def __init__(self, spool: ReportSpool, carrier: Carrier, *, chance: Callable[[], float] = random.random) -> None:
        self.spool, self.transport = spool, carrier
        self.failures = 0
        self.delay_s = 0.0
        self._chance = chance
        self._carried_to: SpooledReport | None = None

    def deliver(self, budget_s: float | None = None) -> DeliveryOutcome:
        """Settles what came back, then puts on the carrier what is not on it yet. Sets `delay_s` as a Courier does."""
        ends_s = None if budget_s is None else time.monotonic() + budget_s
        outcome = DeliveryOutcome()
        try:
            outcome = self._settled()
            outcome = self._carried(outcome, ends_s)
            self.failures = 0
        except DeviceError as error:
            self.failures += 1
            self._carried_to = None
            outcome = replace(outcome, error=error)
            with suppress(DeviceError):
                outcome = replace(outcome, left=self.spool.stats().reports)
        self.delay_s = retry_delay_s(self.failures, self._chance())
        return outcome

    def _settled(self) -> DeliveryOutcome:
        accepted = rejected = 0
        if self.transport.look():
            self._carried_to = None
        brought = self.transport.brought()
        for each in brought:
            settled = self.spool.settle(each.ack)
            accepted, rejected = accepted + settled.accepted, rejected + settled.rejected
        self.transport.forget(brought)
        return DeliveryOutcome(accepted=accepted, rejected=rejected)

    def _carried(self, outcome: DeliveryOutcome, ends_s: float | None) -> DeliveryOutcome:
        limit, held = self.transport.batch_bytes, 0
        room_bytes = self.spool.max_bytes // _SHARE - self.spool.stats().sent_bytes
        while pending := self.spool.pending(MAX_BATCH, limit, self._carried_to):
            if ends_s is not None and time.monotonic() > ends_s:
                left = self.spool.stats().reports
                return replace(outcome, left=left, out_of_time=True)
            chosen = choose_batch(pending, MAX_BATCH, limit)
            batch, need_bytes = fitting(chosen, room_bytes)
            if not batch:
                held = self.spool.stats().never_sent
                break
            room_bytes -= need_bytes
            new = [report for report in batch if not self.transport.holds(report.body)]
            if new:
                self.spool.mark_sent(new)
                self.transport.put([report.body for report in new])
                outcome = replace(outcome, batches=outcome.batches + 1)
            self._carried_to = batch[-1]
        left = self.spool.stats().reports
        return replace(outcome, left=left, carried=left - held, held=held)
