"""Reports on the device's disk until the collector has them: SQLite, WAL with synchronous=FULL, one transaction each.

What `put` returned from survives kill -9 and a power cut. A report leaves when it is acknowledged, or goes to the
quarantine when it is rejected. What is folded when the spool is full or reports are old: `spool_policy`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.spool.file import SpoolFile, add_count
from edgeloop.telemetry.spool.policy import (
    DEFAULT_MAX_AGE_S,
    DEFAULT_MAX_BYTES,
    FOLD_LEVELS,
    QUARANTINE_SHARE,
    ROW_OVERHEAD_BYTES,
    UNFOLDABLE,
    Settled,
    SpooledReport,
    SpoolFullError,
    SpoolStats,
    aged_run,
    calm_s,
    check_report,
    fold_bodies,
    oldest_run,
)
from edgeloop.telemetry.wire.codec import UNREADABLE_BOOT, Ack
from edgeloop.telemetry.wire.values import tidy

__all__ = ["DEFAULT_MAX_BYTES", "Settled", "Spool", "SpoolFullError", "SpoolStats", "SpooledReport"]

_FOLDS_AT_ONCE = 16


class Spool:
    """A `ReportSpool` in a file, of one agent. A second process that opens the file gets a DeviceError.

    Every method raises DeviceError when the disk fails. `clock`: seconds that only ever grow; the age of a report is
    how long a spool was open since it was put, so that a wall clock that jumps makes nothing old.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_s: float = DEFAULT_MAX_AGE_S,
        on_notice: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens or makes the file. One that is damaged is put aside as `NAME.damaged`, and `on_notice` is told."""
        self.path = Path(path)
        self.max_bytes, self.max_age_s = max_bytes, max_age_s
        self._file = SpoolFile(self.path, on_notice)
        self._lock = threading.Lock()
        self._refused = 0  # not in the file yet
        self._clock = clock
        newest_s = self._file.run(lambda db: db.execute("SELECT COALESCE(MAX(put_s), 0) FROM reports").fetchone()[0])
        self._epoch_s = clock() - newest_s
        self._look_for_aged_s = 0.0

    def put(self, body: bytes, boot: str, seq: int) -> None:
        """See `ReportSpool.put`. It is on disk when this returns."""
        subject = check_report(body, boot, seq)
        now_s = int(self._clock() - self._epoch_s)

        def work(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT body FROM reports WHERE boot = ? AND seq = ?", (boot, seq)).fetchone()
            if known is not None and known[0] == body:
                return
            if known is not None:
                raise DataError(f"another report is spooled as {boot}/{seq} already")
            self._fold_aged(db, now_s)
            self._make_room(db, len(body) + ROW_OVERHEAD_BYTES)
            db.execute(
                "INSERT INTO reports (boot, seq, body, crc, subject, put_s) VALUES (?, ?, ?, ?, ?, ?)",
                (boot, seq, body, zlib.crc32(body), subject, now_s),
            )
            add_count(db, "refused", self._refused)

        with self._lock:
            try:
                self._run_with_folding(work)
                self._refused = 0
            except DeviceError:
                self._refused += 1
                raise

    def pending(
        self, limit: int, max_bytes: int = 256 * 1024, after: SpooledReport | None = None
    ) -> list[SpooledReport]:
        """See `ReportSpool.pending`."""
        behind = (0, 0) if after is None else (after.deferred, after.place)

        def work(db: sqlite3.Connection) -> list[SpooledReport]:
            reports: list[SpooledReport] = []
            damaged: list[int] = []
            total_bytes = 0
            query = (
                "SELECT id, crc, boot, seq, body, sends, deferred, id FROM reports WHERE (deferred, id) > (?, ?)"
                " ORDER BY deferred, id LIMIT ?"
            )
            for row in db.execute(query, (*behind, limit)):
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
        """See `ReportSpool.mark_sent`."""
        keys = [(report.boot, report.seq) for report in reports]
        self._file.run(
            lambda db: db.executemany("UPDATE reports SET sends = sends + 1 WHERE boot = ? AND seq = ?", keys)
        )

    def defer(self, report: SpooledReport) -> None:
        """See `ReportSpool.defer`."""
        key = (report.boot, report.seq)
        self._file.run(
            lambda db: db.execute("UPDATE reports SET deferred = deferred + 1 WHERE boot = ? AND seq = ?", key)
        )

    def settle(self, ack: Ack) -> Settled:
        """See `ReportSpool.settle`."""

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

    def condense(self, to_bytes: int) -> int:
        """See `ReportSpool.condense`."""

        def work(db: sqlite3.Connection) -> int:
            folded = 0
            for _ in range(_FOLDS_AT_ONCE):
                if _used_bytes(db, "reports") <= to_bytes or not (run := _finest_run(db)):
                    break
                folded += _fold(db, run)
            return folded

        return self._file.run(work)

    def stats(self) -> SpoolStats:
        """See `ReportSpool.stats`."""

        def work(db: sqlite3.Connection) -> SpoolStats:
            reports, never_sent, sent_bytes = db.execute(
                "SELECT COUNT(*), COALESCE(SUM(sends = 0), 0),"
                " COALESCE(SUM(CASE WHEN sends > 0 THEN LENGTH(body) + ? END), 0) FROM reports",
                (ROW_OVERHEAD_BYTES,),
            ).fetchone()
            quarantined = db.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0]
            counts: dict[str, int] = dict(db.execute("SELECT name, value FROM counts").fetchall())
            counts["refused"] = counts.get("refused", 0) + self._refused
            return SpoolStats(reports, never_sent, _used_bytes(db), quarantined, sent_bytes=sent_bytes, **counts)

        return self._file.run(work)

    def quarantined(self, limit: int = 100) -> list[tuple[str, int, bytes, str]]:
        """See `ReportSpool.quarantined`."""
        query = "SELECT boot, seq, body, reason FROM quarantine ORDER BY id DESC LIMIT ?"
        return self._file.run(lambda db: db.execute(query, (limit,)).fetchall())

    def close(self) -> None:
        """Closes the file. The next call opens it again."""
        self._file.close()

    def end(self) -> None:
        """Closes the file for good; every later call raises DeviceError."""
        self._file.end()

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

    def _fold_aged(self, db: sqlite3.Connection, now_s: int) -> None:
        """At most one run at a time, so that no `put` takes long."""
        if now_s < self._look_for_aged_s:
            return
        query = "SELECT id, subject, put_s FROM reports WHERE sends = 0 AND put_s <= ? ORDER BY id"
        if run := aged_run(db.execute(query, (now_s - self.max_age_s,))):
            _fold(db, run)
        else:
            self._look_for_aged_s = now_s + calm_s(self.max_age_s)

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
        while _used_bytes(db, "quarantine") > self.max_bytes // QUARANTINE_SHARE:
            db.execute("DELETE FROM quarantine WHERE id = (SELECT MIN(id) FROM quarantine)")


def _finest_run(db: sqlite3.Connection) -> list[int]:
    """The finest of what may be folded; empty when there is nothing."""
    for level in FOLD_LEVELS:
        rows = db.execute("SELECT id, subject, folded FROM reports WHERE sends = 0 ORDER BY id")
        if run := oldest_run(rows, level):
            return run
    return []


def _fold_one_run(db: sqlite3.Connection) -> bool:
    """False when there is nothing to fold."""
    run = _finest_run(db)
    if run:
        _fold(db, run)
    return bool(run)


def _fold(db: sqlite3.Connection, run: Sequence[int]) -> int:
    """Puts the reports of `run` into the place of the first, under the key of the last; how many went into others.
    What cannot be folded is marked, and not tried again."""
    marks = ", ".join("?" * len(run))
    rows = db.execute(f"SELECT body, crc, folded FROM reports WHERE id IN ({marks}) ORDER BY id", run).fetchall()
    damaged = [row_id for row_id, (body, crc, _n) in zip(run, rows, strict=True) if zlib.crc32(body) != crc]
    merged = None if damaged else fold_bodies([row[0] for row in rows])
    if merged is None:
        doomed = [(UNFOLDABLE, row_id) for row_id in damaged or run[:1]]
        db.executemany("UPDATE reports SET subject = ? WHERE id = ?", doomed)
        return 0
    subject, put_s = db.execute("SELECT subject, put_s FROM reports WHERE id = ?", (run[0],)).fetchone()
    db.execute(f"DELETE FROM reports WHERE id IN ({marks})", run)
    db.execute(
        "INSERT INTO reports (id, boot, seq, body, crc, subject, folded, put_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run[0], merged.boot, merged.seq, merged.body, zlib.crc32(merged.body), subject,
         sum(row[2] for row in rows), put_s),
    )  # fmt: skip
    add_count(db, "folded", len(run) - 1)
    return len(run) - 1


def _used_bytes(db: sqlite3.Connection, table: str = "") -> int:
    query = "SELECT SUM(bytes) FROM used WHERE name = ? OR ? = ''"
    used: int = db.execute(query, (table, table)).fetchone()[0]
    return used
