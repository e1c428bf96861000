"""From a batch's bytes to its acknowledgement; the one way in, whatever the transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from edgeloop.errors import DataError
from edgeloop.telemetry.clock import SentAt, corrected_times
from edgeloop.telemetry.collector.decoding import Here
from edgeloop.telemetry.collector.metrics import IngestMetrics
from edgeloop.telemetry.collector.notices import Notices, printable
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rows import ReportRow, to_row
from edgeloop.telemetry.store.writing import Inserted, Job, Quarantined
from edgeloop.telemetry.wire.codec import Ack, Rejected, accepted_ranges, decode_batch
from edgeloop.telemetry.wire.together import Decoded, LatencySums

OTHER_DEVICE = "is from another device"
"""Why a report is rejected that its sender did not make."""
DEVICE_REVOKED = "is from a device that was revoked"
"""Why a report is rejected whose device the registry no longer wants, whichever way it came."""
_MAX_REASON_CHARS = 120  # times MAX_BATCH stays well below MAX_ACK_BYTES


PendingCommands = Callable[[str], Sequence[bytes]]
"""device -> its encoded commands, at most `codec.MAX_COMMANDS`; asked once per batch, so it has to be cheap."""

OnAnswers = Callable[[str, Sequence[bytes]], None]
"""Takes a device's encoded answers, which may be a stranger's bytes, durably; what it raises keeps the batch from being
acknowledged."""

OnStored = Callable[[Sequence[Report], float, LatencySums], None]
"""Takes the reports that were new, after their commit, when they came in, and their latency summed up; before the
acknowledgement, so: cheap."""


def _silent(_line: str) -> None:
    return


def _no_commands(_device: str) -> Sequence[bytes]:
    return ()


def _unwatched(_reports: Sequence[Report], _received_s: float, _latency: LatencySums) -> None:
    return


def _nobody() -> Collection[str]:
    return ()


def _no_answers(_device: str, _answers: Sequence[bytes]) -> None:
    return


@dataclass(frozen=True)
class Request:
    """An encoded batch, and the device that the transport knows to have sent it."""

    batch: bytes
    sender: str | None = None


@dataclass
class _Sorted:
    """A batch, sorted into what can be stored and what cannot."""

    sender: str | None
    answers: Sequence[bytes] = ()
    sent: SentAt | None = None
    is_revoked: bool = False
    reports: list[Report] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    rows: list[ReportRow] = field(default_factory=list)
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
    pending_commands, on_answers: what goes to a device with an acknowledgement, and what comes from it with a batch.
    on_stored: who wants to know of new reports. revoked: names of devices of which nothing is taken.
    """

    store: Store
    notices: Notices = field(default_factory=lambda: Notices(_silent))
    metrics: IngestMetrics = field(default_factory=IngestMetrics)
    clock: Callable[[], float] = time.time
    pending_commands: PendingCommands = _no_commands
    on_answers: OnAnswers = _no_answers
    on_stored: OnStored = _unwatched
    revoked: Callable[[], Collection[str]] = _nobody
    decoding: Here = field(default_factory=Here)

    @property
    def threads(self) -> int:
        """How many calls of `handle_all` at a time are worth having."""
        return self.store.database.writers + self.decoding.elsewhere

    def without_commands(self) -> Ingest:
        """The same for reports that did not come from their devices just now."""
        return replace(self, pending_commands=_no_commands, on_answers=_no_answers)

    def handle(self, batch: bytes, sender: str | None = None) -> Ack:
        """The acknowledgement of an encoded batch, after its commit.

        sender: the device that the transport knows to have sent it; reports of another one are rejected then. Without
        it, the batch's commands and answers are those of the one device that its reports are of, if it is one.

        Raises DataError when the batch as a whole cannot be read, StoreUnavailableError when it could not be committed;
        the sender then has no acknowledgement and sends again.
        """
        outcome = self.handle_all([Request(batch, sender)])[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
        """`handle` of each, or what it raises: decoded at once, and committed in one transaction. A defect of ours that
        one of them meets is that one's alone."""
        try:
            return self._handle_together(requests)
        except Exception as error:
            if len(requests) == 1:
                return [error]
            return [self.handle_all([request])[0] for request in requests]

    def _handle_together(self, requests: Sequence[Request]) -> list[Ack | Exception]:
        now = self.clock()
        found, together = self._sort(requests, now)
        jobs = [Job(each.rows, each.refused, now) for each in found if isinstance(each, _Sorted)]
        self.store.commit(jobs)
        to_come = iter(jobs)
        outcomes: list[Ack | Exception] = []
        new: list[Report] = []
        for each in found:
            try:
                outcomes.append(self._answer(each, next(to_come), now, new) if isinstance(each, _Sorted) else each)
            except Exception as error:
                outcomes.append(error)
        latency = together.latency_sums(new)
        self.metrics.observe(new, latency)
        self.on_stored(new, now, latency)
        return outcomes

    def _sort(self, requests: Sequence[Request], now: float) -> tuple[list[_Sorted | DataError], Decoded]:
        revoked = self.revoked()
        found: list[_Sorted | DataError] = []
        bodies: list[bytes] = []
        owners: list[_Sorted] = []
        for request in requests:
            try:
                parts = decode_batch(request.batch)
            except DataError as error:
                self.metrics.count("batches_refused")
                self.notices.once("batch", f"refused a batch that cannot be read: {error.message}")
                found.append(error)
                continue
            mine = _Sorted(request.sender, parts.answers, parts.sent, request.sender in revoked)
            found.append(mine)
            bodies += parts.reports
            owners += [mine] * len(parts.reports)
        together = self.decoding.together(bodies)
        for body, report, mine in zip(bodies, together.reports, owners, strict=True):
            if isinstance(report, DataError):
                mine.reject(Rejected.unreadable(body, _reason(report)), "", body)
            elif mine.sender is not None and report.device != mine.sender:
                mine.reject(Rejected(report.boot, report.seq, OTHER_DEVICE), report.device, body)
            elif report.device in revoked:
                mine.is_revoked = True
                mine.reject(Rejected(report.boot, report.seq, DEVICE_REVOKED), report.device, body)
            else:
                mine.reports.append(report)
                mine.bodies.append(body)
        for each in found:
            if isinstance(each, _Sorted):
                made = zip(each.reports, each.bodies, corrected_times(each.reports, now, each.sent), strict=True)
                each.rows = [to_row(report, now, body, made_s) for report, body, made_s in made]
        return found, together

    def _answer(self, found: _Sorted, job: Job, now: float, new: list[Report]) -> Ack:
        """Adds to `new` what was stored for the first time."""
        try:
            inserted = self._outcome(found, job, now)
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
        new += [found.reports[position] for position in inserted.new]
        if found.is_revoked:
            return Ack(accepted_ranges([(r.boot, r.seq) for r in found.reports]), tuple(found.rejected))
        device = found.sender if found.sender is not None else _only_device(found.reports)
        if found.answers and (device is not None or not found.reports):
            self.on_answers(device or "", found.answers)
        commands = () if device is None else tuple(self.pending_commands(device))
        return Ack(accepted_ranges([(r.boot, r.seq) for r in found.reports]), tuple(found.rejected), commands)

    def _outcome(self, found: _Sorted, job: Job, now: float) -> Inserted:
        if job.error is None:
            return job.result
        if not isinstance(job.error, DataError):
            raise job.error
        # The database took offence at a value that `to_row` let through: find the report that has it.
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


def _only_device(reports: Sequence[Report]) -> str | None:
    devices = {report.device for report in reports}
    return devices.pop() if len(devices) == 1 else None


def _reason(error: DataError) -> str:
    text = printable(error.message, _MAX_REASON_CHARS - 1)
    return text.encode("ascii", "replace").decode("ascii")
