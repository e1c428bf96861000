"""Reports on the device's disk until the collector has them: SQLite, WAL with synchronous=FULL, one transaction each.

What `put` returned from survives kill -9 and a power cut. A report leaves when it is acknowledged, or goes to the
quarantine when it is rejected. The spool is bounded: when it is full, reports that were never sent are folded into
each other, oldest first (`report.merge_reports`): resolution in time is lost, counts are not. Reports that were sent
once are never folded: the collector may have them under their key. With nothing left to fold, `put` refuses, counted.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.codec import MAX_REPORT_BYTES, UNREADABLE_BOOT, Ack, decode_report, encode_report
from edgeloop.telemetry.report import BOOT_PATTERN, merge_reports, subject_of
from edgeloop.telemetry.spool_file import ROW_OVERHEAD_BYTES, SpoolFile, SpoolFullError, add_count
from edgeloop.telemetry.wire_values import MAX_NUMBER, tidy

__all__ = ["DEFAULT_MAX_BYTES", "Settled", "Spool", "SpoolFullError", "SpoolStats", "SpooledReport"]

DEFAULT_MAX_BYTES = 16 * 1024 * 1024
FOLD_ROWS = 8
FOLD_LEVELS = (8, 64, 512, 4096, 1 << 62)
"""Reports folded from this many are left alone while there are finer ones to fold: all of a long time away keeps a
resolution, and not the last day alone."""
_QUARANTINE_SHARE = 8  # the quarantine takes an eighth of the bytes at most, the oldest leave first
_UNFOLDABLE = 0


@dataclass(frozen=True)
class SpooledReport:
    """A report that waits. sends: how often it was handed to a transport; deferred: how often put behind others."""

    boot: str
    seq: int
    body: bytes
    sends: int = 0
    deferred: int = 0


@dataclass(frozen=True)
class Settled:
    """What an acknowledgement changed here."""

    accepted: int
    rejected: int


@dataclass(frozen=True)
class SpoolStats:
    """reports, never_sent, bytes and quarantined are what is there now; the rest is counted since the file was made.

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


class Spool:
    """One agent's spool, for any of its threads. A second process that opens the file gets a DeviceError.

    Every method raises DeviceError when the disk fails.
    """

    def __init__(
        self, path: Path | str, *, max_bytes: int = DEFAULT_MAX_BYTES, on_notice: Callable[[str], None] | None = None
    ) -> None:
        """Opens or makes the file. One that is damaged is put aside as `NAME.damaged`, and `on_notice` is told."""
        self.path = Path(path)
        self.max_bytes = max_bytes
        self._file = SpoolFile(self.path, on_notice)
        self._lock = threading.Lock()
        self._refused = 0  # not in the file yet
        self.stats()

    def put(self, body: bytes, boot: str, seq: int) -> None:
        """Keeps an encoded report: it is on disk when this returns. The same one twice is kept once.

        SpoolFullError when there is no room even after folding, or the disk is full: the caller still has the report,
        may fold it into its next one, and it is counted as refused. DataError for what is no report, or a second one
        under the key of another.
        """
        if not BOOT_PATTERN.fullmatch(boot) or boot == UNREADABLE_BOOT or not 1 <= seq <= MAX_NUMBER:
            raise DataError(f"({boot!r}, {seq}) is not a report's key")
        if not 0 < len(body) <= MAX_REPORT_BYTES:
            raise DataError(f"report of {len(body)} bytes is not within 1 to {MAX_REPORT_BYTES}")
        subject = _subject_code(body, boot, seq)

        def work(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT body FROM reports WHERE boot = ? AND seq = ?", (boot, seq)).fetchone()
            if known is not None and known[0] == body:
                return
            if known is not None:
                raise DataError(f"another report is spooled as {boot}/{seq} already")
            self._make_room(db, len(body) + ROW_OVERHEAD_BYTES)
            db.execute(
                "INSERT INTO reports (boot, seq, body, crc, subject) VALUES (?, ?, ?, ?, ?)",
                (boot, seq, body, zlib.crc32(body), subject),
            )
            add_count(db, "refused", self._refused)

        with self._lock:
            try:
                self._run_with_folding(work)
                self._refused = 0
            except DeviceError:
                self._refused += 1
                raise

    def pending(self, limit: int, max_bytes: int = 256 * 1024) -> list[SpooledReport]:
        """Up to `limit` reports, and no more than it takes to pass `max_bytes`, in the order to send them: oldest
        first, deferred ones after the others."""

        def work(db: sqlite3.Connection) -> list[SpooledReport]:
            reports: list[SpooledReport] = []
            damaged: list[int] = []
            total_bytes = 0
            query = "SELECT id, crc, boot, seq, body, sends, deferred FROM reports ORDER BY deferred, id LIMIT ?"
            for row in db.execute(query, (limit,)):
                report = SpooledReport(*row[2:])
                if zlib.crc32(report.body) != row[1]:
                    damaged.append(row[0])
                    continue
                reports.append(report)
                total_bytes += len(report.body)
                if total_bytes >= max_bytes:
                    break
            for row_id in damaged:
                self._quarantine(db, row_id, "its bytes changed on the device's disk")
            add_count(db, "damaged", len(damaged))
            return reports

        return self._file.run(work)

    def mark_sent(self, reports: Iterable[SpooledReport]) -> None:
        """To be called before reports are handed to a transport: from then on they are never folded."""
        keys = [(report.boot, report.seq) for report in reports]
        self._file.run(
            lambda db: db.executemany("UPDATE reports SET sends = sends + 1 WHERE boot = ? AND seq = ?", keys)
        )

    def defer(self, report: SpooledReport) -> None:
        """Lets all others go before this one, which the far end could not answer."""
        key = (report.boot, report.seq)
        self._file.run(
            lambda db: db.execute("UPDATE reports SET deferred = deferred + 1 WHERE boot = ? AND seq = ?", key)
        )

    def settle(self, ack: Ack) -> Settled:
        """Deletes what was accepted and quarantines what was rejected, among the reports that were sent."""

        def work(db: sqlite3.Connection) -> Settled:
            rejected = accepted = 0
            for each in ack.rejected:
                if each.boot == UNREADABLE_BOOT:
                    found = db.execute("SELECT id FROM reports WHERE crc = ? AND sends > 0", (each.seq,))
                else:
                    key = (each.boot, each.seq)
                    found = db.execute("SELECT id FROM reports WHERE boot = ? AND seq = ? AND sends > 0", key)
                for (row_id,) in found.fetchall():
                    self._quarantine(db, row_id, each.reason)
                    rejected += 1
            for span in ack.accepted:
                accepted += db.execute(
                    "DELETE FROM reports WHERE boot = ? AND seq BETWEEN ? AND ? AND sends > 0", span
                ).rowcount
            add_count(db, "accepted", accepted)
            add_count(db, "rejected", rejected)
            return Settled(accepted, rejected)

        return self._file.run(work)

    def stats(self) -> SpoolStats:
        """What is in it and what happened to it."""

        def work(db: sqlite3.Connection) -> SpoolStats:
            reports, never_sent = db.execute("SELECT COUNT(*), COALESCE(SUM(sends = 0), 0) FROM reports").fetchone()
            quarantined = db.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0]
            counts: dict[str, int] = dict(db.execute("SELECT name, value FROM counts").fetchall())
            counts["refused"] = counts.get("refused", 0) + self._refused
            return SpoolStats(reports, never_sent, _used_bytes(db), quarantined, **counts)

        return self._file.run(work)

    def quarantined(self, limit: int = 100) -> list[tuple[str, int, bytes, str]]:
        """The newest (boot, seq, body, reason) that were set aside."""
        query = "SELECT boot, seq, body, reason FROM quarantine ORDER BY id DESC LIMIT ?"
        return self._file.run(lambda db: db.execute(query, (limit,)).fetchall())

    def close(self) -> None:
        """Closes the file. The next call opens it again."""
        self._file.close()

    def _run_with_folding(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """On a full disk, too, older reports make room for a new one."""
        while True:
            try:
                self._file.run(work)
            except SpoolFullError:
                if not self._file.run(_fold_one_run):
                    raise
            else:
                return

    def _make_room(self, db: sqlite3.Connection, need_bytes: int) -> None:
        while _used_bytes(db) + need_bytes > self.max_bytes and _fold_one_run(db):
            pass
        if _used_bytes(db) + need_bytes > self.max_bytes:
            raise SpoolFullError(
                f"spool {self.path} is full ({self.max_bytes} bytes) and nothing in it may be folded",
                hint="bring the collector back or give the spool more room",
            )

    def _quarantine(self, db: sqlite3.Connection, row_id: int, reason: str) -> None:
        # Out before in: on a full disk the one makes room for the other.
        row = db.execute("SELECT boot, seq, body FROM reports WHERE id = ?", (row_id,)).fetchone()
        db.execute("DELETE FROM reports WHERE id = ?", (row_id,))
        db.execute("INSERT INTO quarantine (boot, seq, body, reason) VALUES (?, ?, ?, ?)", (*row, tidy(reason)))
        while _used_bytes(db, "quarantine") > self.max_bytes // _QUARANTINE_SHARE:
            db.execute("DELETE FROM quarantine WHERE id = (SELECT MIN(id) FROM quarantine)")


def oldest_run(rows: Iterable[tuple[int, int, int]], level: int) -> list[int]:
    """Ids of the oldest neighbors that may become one report of at most `level`; empty when there are none.

    rows: (id, subject code, folded from), oldest first, never sent. At most FOLD_ROWS at a time.
    """
    run: list[int] = []
    run_subject, run_folded = _UNFOLDABLE, 0
    for row_id, subject, folded in rows:
        if run and subject == run_subject and run_folded + folded <= level and len(run) < FOLD_ROWS:
            run.append(row_id)
            run_folded += folded
            continue
        if len(run) > 1:
            break
        run = [row_id] if subject != _UNFOLDABLE and folded < level else []
        run_subject, run_folded = subject, folded
    return run if len(run) > 1 else []


def _fold_one_run(db: sqlite3.Connection) -> bool:
    """Fold the finest of what may be folded; False when there is nothing."""
    for level in FOLD_LEVELS:
        rows = db.execute("SELECT id, subject, folded FROM reports WHERE sends = 0 ORDER BY id")
        if run := oldest_run(rows, level):
            _fold(db, run)
            return True
    return False


def _fold(db: sqlite3.Connection, run: Sequence[int]) -> None:
    """Puts the reports of `run` into the place of the first, under the key of the last."""
    marks = ", ".join("?" * len(run))
    rows = db.execute(f"SELECT body, crc, folded FROM reports WHERE id IN ({marks}) ORDER BY id", run).fetchall()
    try:
        if any(zlib.crc32(body) != crc for body, crc, _folded in rows):
            raise DataError("a report changed on the device's disk")
        merged = merge_reports([decode_report(body) for body, _crc, _folded in rows])
        body = encode_report(merged)
    except (DataError, ValueError):
        body = b""
    if not body or len(body) >= sum(len(row[0]) for row in rows):
        db.execute("UPDATE reports SET subject = ? WHERE id = ?", (_UNFOLDABLE, run[0]))
        return
    subject = db.execute("SELECT subject FROM reports WHERE id = ?", (run[0],)).fetchone()[0]
    db.execute(f"DELETE FROM reports WHERE id IN ({marks})", run)
    db.execute(
        "INSERT INTO reports (id, boot, seq, body, crc, subject, folded) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (run[0], merged.boot, merged.seq, body, zlib.crc32(body), subject, sum(row[2] for row in rows)),
    )
    add_count(db, "folded", len(run) - 1)


def _subject_code(body: bytes, boot: str, seq: int) -> int:
    """Equal for reports that may be folded; _UNFOLDABLE for bytes this version cannot read."""
    try:
        report = decode_report(body)
    except DataError:
        return _UNFOLDABLE
    if (report.boot, report.seq) != (boot, seq):
        raise DataError(f"report {report.boot}/{report.seq} is not {boot}/{seq}")
    return zlib.crc32(repr(subject_of(report)).encode()) | 1


def _used_bytes(db: sqlite3.Connection, table: str = "") -> int:
    query = "SELECT SUM(bytes) FROM used WHERE name = ? OR ? = ''"
    used: int = db.execute(query, (table, table)).fetchone()[0]
    return used
