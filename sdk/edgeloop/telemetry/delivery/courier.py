"""Getting spooled reports to the collector, at least once: what to send and when to try again are pure functions.

    courier = Courier(spool, transport)
    while running:
        courier.deliver()
        wait(courier.delay_s or report_interval_s)

A report is marked as sent before it goes out, and leaves the spool on the collector's acknowledgement only. Whatever
happens in between, it is sent again, and the collector knows it by its key.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from edgeloop.errors import DeviceError
from edgeloop.telemetry.clock import ReportsSentNow, SentAt
from edgeloop.telemetry.delivery.pace import Pace
from edgeloop.telemetry.spool.policy import ReportSpool, SpooledReport
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, NotAcknowledgedError, Transport
from edgeloop.telemetry.wire.codec import MAX_BATCH

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
PATIENCE = 8
"""A report that was sent so often without an answer lets those behind it go first. Not sooner: while nobody listens,
each report that is tried is one that can no longer be folded."""
_FRAME_BYTES = 8  # what a report adds to a batch beside its own bytes


@dataclass(frozen=True)
class DeliveryOutcome:
    """What one call of `deliver_pending` did. error: why it stopped early; None when the spool was emptied.

    failed_batch: reports in the batch that failed. out_of_time: stopped at the budget. left: reports that still wait;
    carried: of these, the ones that wait for nothing but their acknowledgement (`carrying`); held: kept back so that
    they can still be folded.
    """

    accepted: int = 0
    rejected: int = 0
    batches: int = 0
    left: int = 0
    error: DeviceError | None = None
    failed_batch: int = 0
    out_of_time: bool = False
    carried: int = 0
    held: int = 0

    @property
    def done(self) -> bool:
        """There is nothing more to do at present."""
        return self.error is None and self.left <= self.carried + self.held


def choose_batch(pending: Sequence[SpooledReport], max_reports: int, max_bytes: int) -> Sequence[SpooledReport]:
    """The longest beginning of `pending` within the limits, at least one report. A deferred report goes alone: it must
    not take others down with it again."""
    if pending and pending[0].deferred:
        return pending[:1]
    total_bytes = 0
    for count, report in enumerate(pending):
        total_bytes += len(report.body) + _FRAME_BYTES
        if count and (count >= max_reports or total_bytes > max_bytes or report.deferred):
            return pending[:count]
    return pending


def lets_others_go_first(batch: Sequence[SpooledReport], error: DeviceError | None) -> bool:
    """Whether a batch that failed was one report which the far end cannot answer, or did not for PATIENCE times."""
    if len(batch) != 1 or not isinstance(error, NotAcknowledgedError):
        return False
    return error.blames_batch or batch[0].sends + 1 >= PATIENCE * (batch[0].deferred + 1)


def retry_delay_s(failures: int, chance: float) -> float:
    """Seconds to wait after that many failures in a row: 1, 2, 4 ... 60, each times 0.5 to 1 by `chance` (0..1), so
    that a fleet does not return all at once. 0 after none."""
    if failures < 1:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 16), MAX_DELAY_S) * (0.5 + 0.5 * chance)


def deliver_pending(
    spool: ReportSpool,
    transport: Transport,
    *,
    max_reports: int = MAX_BATCH,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    budget_s: float | None = None,
    pace: Pace | None = None,
    sent_at: Callable[[], SentAt | None] = lambda: None,
) -> DeliveryOutcome:
    """Sends batches until the spool is empty, a batch fails, or `budget_s` is over (the last wait is cut to it).

    The first batch holds `max_reports` at most, each after it twice as many, and no more than `pace` says. What waits
    longer than the line can carry it away is folded. `sent_at`: see `Courier`. A DeviceError, also of the spool, is in
    the outcome, not raised.
    """
    pace = pace or Pace(time.monotonic)
    ends_s = None if budget_s is None else time.monotonic() + budget_s
    outcome = DeliveryOutcome()
    batch: Sequence[SpooledReport] = ()
    try:
        while pending := spool.pending(max_reports, max_bytes := min(transport.batch_bytes, pace.batch_bytes)):
            left_s = timeout_s if ends_s is None else ends_s - time.monotonic()
            if left_s <= 0:
                outcome = replace(outcome, out_of_time=True)
                break
            batch = choose_batch(pending, max_reports, max_bytes)
            spool.mark_sent(batch)
            began_s = time.monotonic()
            ack = transport.send(_stamped(batch, sent_at()), min(timeout_s, left_s))
            pace.acknowledged(sum(len(report.body) for report in batch), time.monotonic() - began_s)
            settled = spool.settle(ack)
            if not settled.accepted and not settled.rejected:
                raise NotAcknowledgedError("the collector acknowledged none of the reports it was sent")
            outcome = replace(
                outcome,
                accepted=outcome.accepted + settled.accepted,
                rejected=outcome.rejected + settled.rejected,
                batches=outcome.batches + 1,
            )
            max_reports = min(max_reports * 2, MAX_BATCH)
            _keep_up(spool, pace)
        return replace(outcome, left=spool.stats().reports)
    except DeviceError as error:
        pace.failed(sum(len(report.body) for report in batch))
        outcome = replace(outcome, error=error, failed_batch=len(batch), left=len(batch))
    with suppress(DeviceError):
        if lets_others_go_first(batch, outcome.error):
            spool.defer(batch[0])
        outcome = replace(outcome, left=spool.stats().reports)
    return outcome


def _stamped(batch: Sequence[SpooledReport], sent: SentAt | None) -> Sequence[bytes]:
    bodies = [report.body for report in batch]
    return bodies if sent is None else ReportsSentNow.of(bodies, sent)


def _keep_up(spool: ReportSpool, pace: Pace) -> None:
    """Fold what the line cannot carry away."""
    if not pace.may_look():
        return
    stats = spool.stats()
    went = stats.accepted + stats.rejected
    limit_bytes = pace.backlog_limit_bytes(stats.bytes, stats.reports + stats.folded + went, went)
    while limit_bytes is not None and spool.condense(limit_bytes):
        pass


class Courier:
    """`deliver_pending` with a memory: how large batches may be and how long to wait. For one thread."""

    def __init__(
        self,
        spool: ReportSpool,
        transport: Transport,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        chance: Callable[[], float] = random.random,
        sent_at: Callable[[], SentAt | None] = lambda: None,
    ) -> None:
        """sent_at: this device's clocks, asked at each batch; None where it does not know them."""
        self.spool, self.transport = spool, transport
        self.failures = 0
        self.delay_s = 0.0
        self._timeout_s, self._chance, self._sent_at = timeout_s, chance, sent_at
        self._max_reports = MAX_BATCH
        self._pace = Pace(time.monotonic)

    def deliver(self, budget_s: float | None = None) -> DeliveryOutcome:
        """See `deliver_pending`. Sets `delay_s`: how long to wait before the next call, 0.0 when all went well."""
        outcome = deliver_pending(
            self.spool,
            self.transport,
            max_reports=self._max_reports,
            timeout_s=self._timeout_s,
            budget_s=budget_s,
            pace=self._pace,
            sent_at=self._sent_at,
        )
        if outcome.error is None:
            self.failures, self._max_reports = 0, MAX_BATCH
        else:
            self.failures = 1 if outcome.batches else self.failures + 1
            # A bad report ends up alone, and while nobody listens few are marked as sent.
            self._max_reports = max(outcome.failed_batch // 2, 1)
        asked_s = getattr(outcome.error, "retry_after_s", 0.0)
        self.delay_s = max(retry_delay_s(self.failures, self._chance()), asked_s)
        return outcome
