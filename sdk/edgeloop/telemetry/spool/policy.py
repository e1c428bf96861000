"""What a spool keeps, what it folds and when: decisions without a disk, shared by every kind of spool.

A spool is bounded by bytes and by age. Reports that were **never sent** are folded into each other, oldest first
(`report.merge_reports`): resolution in time is lost, counts are not. A report that was sent once is never folded, as
the collector may have it under its key; it stays until it is acknowledged.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.report import BOOT_PATTERN, merge_reports, subject_of
from edgeloop.telemetry.wire.codec import MAX_REPORT_BYTES, UNREADABLE_BOOT, Ack, decode_report, encode_report
from edgeloop.telemetry.wire.report_codec import decode_unchecked
from edgeloop.telemetry.wire.values import MAX_NUMBER

DEFAULT_MAX_BYTES = 16 * 1024 * 1024
DAY_S = 86400
DEFAULT_MAX_AGE_S = 7 * DAY_S
ROW_OVERHEAD_BYTES = 96  # what a row costs beside its body, rounded up
QUARANTINE_SHARE = 8  # the quarantine takes an eighth of the bytes at most, the oldest leave first
UNFOLDABLE = 0
"""Subject code of what this version cannot read."""
FOLD_ROWS = 8
FOLD_LEVELS = (8, 64, 512, 4096, 1 << 62)
"""Reports folded from this many are left alone while there are finer ones to fold: all of a long time away keeps a
resolution, and not the last day alone."""
AGED_ROWS = 32
_LONGEST_CALM_S = 3600.0


class SpoolFullError(DeviceError):
    """A report could not be kept: the spool, or the disk under it, is full. The caller still has the report."""


@dataclass(frozen=True)
class SpooledReport:
    """A report that waits. sends: how often it was handed to a transport; deferred: how often put behind others.
    place: orders the reports of one spool that were deferred as often."""

    boot: str
    seq: int
    body: bytes
    sends: int = 0
    deferred: int = 0
    place: int = 0


@dataclass(frozen=True)
class Settled:
    """What an acknowledgement changed here."""

    accepted: int
    rejected: int


@dataclass(frozen=True)
class SpoolStats:
    """reports, never_sent, bytes, quarantined and sent_bytes (of those that were sent) are what is there now; the rest
    is counted since the spool was made.

    folded: reports folded into others; refused: `put` calls that failed for want of room; damaged: reports whose bytes
    changed on the disk; moved_aside: spool files that could not be read and were put away.
    """

    reports: int
    never_sent: int
    bytes: int
    quarantined: int
    accepted: int = 0
    rejected: int = 0
    folded: int = 0
    refused: int = 0
    damaged: int = 0
    moved_aside: int = 0
    sent_bytes: int = 0


class ReportSpool(Protocol):
    """Where reports wait for the collector; tests/conformance/test_spools.py runs on every kind. For any thread."""

    max_bytes: int
    """What it may hold."""

    def put(self, body: bytes, boot: str, seq: int) -> None:
        """Keeps an encoded report: it is safe when this returns. The same one twice is kept once.

        SpoolFullError when there is no room even after folding: the caller still has the report, may fold it into its
        next one, and it is counted as refused. DataError for what is no report, or a second one under another's key.
        """

    def pending(self, limit: int, max_bytes: int = ..., after: SpooledReport | None = ...) -> list[SpooledReport]:
        """Up to `limit` reports, and no more than it takes to pass `max_bytes`, in the order to send them: oldest
        first, deferred ones after the others. after: only those behind this one, which may be gone meanwhile."""

    def mark_sent(self, reports: Iterable[SpooledReport]) -> None:
        """To be called before reports are handed to a transport: from then on they are never folded."""

    def defer(self, report: SpooledReport) -> None:
        """Lets all others go before this one, which the far end could not answer."""

    def settle(self, ack: Ack) -> Settled:
        """Lets go of what was accepted and quarantines what was rejected, among the reports that were sent."""

    def condense(self, to_bytes: int) -> int:
        """Folds some of what was never sent while there are more than `to_bytes`; how many reports went into others.
        A call takes a bounded time: call again while it is above 0."""

    def stats(self) -> SpoolStats:
        """What is in it and what happened to it."""

    def quarantined(self, limit: int = ...) -> list[tuple[str, int, bytes, str]]:
        """The newest (boot, seq, body, reason) that were set aside."""

    def close(self) -> None:
        """Lets go of the file. The next call takes it again."""

    def end(self) -> None:
        """Lets go of the file for good, for another spool on it, whoever still holds this one."""


@dataclass(frozen=True)
class Folded:
    """Several reports as one."""

    boot: str
    seq: int
    body: bytes


def check_report(body: bytes, boot: str, seq: int) -> int:
    """A code that is equal for reports that may be folded; UNFOLDABLE for bytes this version cannot read.

    DataError for a key or size no report has, or for a report under another's key.
    """
    if not BOOT_PATTERN.fullmatch(boot) or boot == UNREADABLE_BOOT or not 1 <= seq <= MAX_NUMBER:
        raise DataError(f"({boot!r}, {seq}) is not a report's key")
    if not 0 < len(body) <= MAX_REPORT_BYTES:
        raise DataError(f"report of {len(body)} bytes is not within 1 to {MAX_REPORT_BYTES}")
    try:
        report = decode_unchecked(body)  # whether its histograms can be merged shows where they are to be
    except DataError:
        return UNFOLDABLE
    if (report.boot, report.seq) != (boot, seq):
        raise DataError(f"report {report.boot}/{report.seq} is not {boot}/{seq}")
    return zlib.crc32(repr(subject_of(report)).encode()) | 1


def fold_bodies(bodies: Sequence[bytes]) -> Folded | None:
    """Encoded reports, oldest first, as one under the key of the last; None where that is not possible or no gain."""
    try:
        merged = merge_reports([decode_report(body) for body in bodies])
        body = encode_report(merged)
    except (DataError, ValueError):
        return None
    return Folded(merged.boot, merged.seq, body) if len(body) < sum(map(len, bodies)) else None


def oldest_run(rows: Iterable[tuple[int, int, int]], level: int) -> list[int]:
    """Ids of the oldest reports of one subject that follow each other and may become one of at most `level`; empty
    when there are none. What other subjects report in between does not part them.

    rows: (id, subject code, folded from), oldest first, never sent. At most FOLD_ROWS at a time.
    """
    runs: dict[int, tuple[list[int], int]] = {}
    for row_id, subject, folded in rows:
        if subject == UNFOLDABLE:
            continue
        run, run_folded = runs.get(subject, ([], 0))
        if run and run_folded + folded <= level:
            run.append(row_id)
            runs[subject] = run, run_folded + folded
            if len(run) == FOLD_ROWS:
                return run
            continue
        if len(run) > 1:
            return run
        runs[subject] = ([row_id], folded) if folded < level else ([], 0)
    return min((run for run, _folded in runs.values() if len(run) > 1), default=[])


def aged_run(rows: Iterable[tuple[int, int, int]]) -> list[int]:
    """Ids of the oldest reports of one subject and one day; empty when no day has two of a subject.

    rows: (id, subject code, second of the spool's clock), oldest first, never sent and over age. At most AGED_ROWS.
    """
    days: dict[tuple[int, int], list[int]] = {}
    for row_id, subject, put_s in rows:
        if subject == UNFOLDABLE:
            continue
        run = days.setdefault((subject, put_s // DAY_S), [])
        run.append(row_id)
        if len(run) == AGED_ROWS:
            return run
    return min((run for run in days.values() if len(run) > 1), default=[])


def calm_s(max_age_s: float) -> float:
    """How long not to look for reports over age after none was found."""
    return min(max_age_s / 64, _LONGEST_CALM_S)
