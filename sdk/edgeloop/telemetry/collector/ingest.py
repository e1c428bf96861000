"""From a batch's bytes to its acknowledgement; the one way in, whatever the transport."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeloop.errors import DataError
from edgeloop.telemetry.codec import Ack, Rejected, accepted_ranges, decode_batch, decode_report, latency_wires
from edgeloop.telemetry.collector.metrics import IngestMetrics
from edgeloop.telemetry.collector.notices import Notices, printable
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rows import ReportRows, to_rows
from edgeloop.telemetry.store.writing import Inserted, Quarantined

_MAX_REASON_CHARS = 120  # times MAX_BATCH stays well below MAX_ACK_BYTES


def _silent(_line: str) -> None:
    return


@dataclass
class _Sorted:
    """A batch, sorted into what can be stored and what cannot."""

    reports: list[Report] = field(default_factory=list)
    rows: list[ReportRows] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)

    def reject(self, rejection: Rejected, device: str, body: bytes) -> None:
        self.rejected.append(rejection)
        self.refused.append(Quarantined(device, rejection.boot, rejection.seq, rejection.reason, body))


@dataclass
class Ingest:
    """Decodes, commits, then acknowledges. Safe to use from several threads.

    A report that is broken or cannot be stored is rejected with a reason and kept in the store's quarantine; it never
    holds up the others of its batch. Every other report is acknowledged once it is durable, new or duplicate alike.
    """

    store: Store
    notices: Notices = field(default_factory=lambda: Notices(_silent))
    metrics: IngestMetrics = field(default_factory=IngestMetrics)
    clock: Callable[[], float] = time.time

    def handle(self, batch: bytes) -> Ack:
        """The acknowledgement of an encoded batch, after its commit.

        Raises DataError when the batch as a whole cannot be read, StoreUnavailableError when it could not be committed;
        the sender then has no acknowledgement and sends again.
        """
        now = self.clock()
        try:
            bodies = decode_batch(batch)
        except DataError as error:
            self.metrics.count("batches_refused")
            self.notices.once("batch", f"refused a batch that cannot be read: {error.message}")
            raise
        found = _sort(bodies, now)
        try:
            inserted = self._commit(found, now)
        except StoreUnavailableError as error:
            self.metrics.count("commits_failed")
            self.notices.trouble("store", f"{error.message}; nothing is acknowledged, devices keep their reports")
            raise
        self.notices.over("store", "the store is available again")
        self._tell_of(found)
        self.metrics.count("batches")
        self.metrics.count("reports_stored", inserted.stored)
        self.metrics.count("reports_duplicate", inserted.duplicates)
        self.metrics.count("reports_rejected", len(found.rejected))
        self.metrics.observe(found.reports[position] for position in inserted.new)
        return Ack(accepted_ranges([(r.boot, r.seq) for r in found.reports]), tuple(found.rejected))

    def _commit(self, found: _Sorted, now: float) -> Inserted:
        try:
            return self.store.insert_rows(found.rows, refused=found.refused, received_s=now)
        except DataError:
            pass  # the database took offence at a value that `to_rows` let through: find the report that has it
        reports, rows = found.reports, found.rows
        found.reports, found.rows = [], []
        new: list[int] = []
        for report, row in zip(reports, rows, strict=True):
            try:
                inserted = self.store.insert_rows([row], refused=(), received_s=now)
            except DataError as error:
                found.reject(Rejected(report.boot, report.seq, _reason(error)), report.device, b"")
                continue
            if inserted.new:
                new.append(len(found.reports))
            found.reports.append(report)
            found.rows.append(row)
        self.store.insert_rows([], refused=found.refused, received_s=now)
        return Inserted(tuple(new), len(found.reports) - len(new))

    def _tell_of(self, found: _Sorted) -> None:
        for rejection, refused in zip(found.rejected, found.refused, strict=True):
            device = refused.device or "a device that cannot be told"
            text = f"rejected a report of {device} (kept in the quarantine): {rejection.reason}"
            self.notices.once(f"report {refused.device}", text)


def _sort(bodies: list[bytes], now: float) -> _Sorted:
    found = _Sorted()
    for body in bodies:
        try:
            report = decode_report(body)
        except DataError as error:
            found.reject(Rejected.unreadable(body, _reason(error)), "", body)
            continue
        try:
            row = to_rows(report, now, latency_wires(body))
        except DataError as error:
            found.reject(Rejected(report.boot, report.seq, _reason(error)), report.device, body)
            continue
        found.reports.append(report)
        found.rows.append(row)
    return found


def _reason(error: DataError) -> str:
    text = printable(error.message, _MAX_REASON_CHARS - 1)
    return text.encode("ascii", "replace").decode("ascii")
