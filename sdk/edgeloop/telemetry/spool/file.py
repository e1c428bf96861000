"""The SQLite file under the spool: opened alone, made anew when it is damaged, its errors turned into ours."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from edgeloop.errors import DeviceError
from edgeloop.telemetry.spool.policy import ROW_OVERHEAD_BYTES, SpoolFullError
from edgeloop.telemetry.spool.reserve import Reserve

T = TypeVar("T")

_LAYOUT_VERSION = 2
_LARGEST_FILE_BYTES = 1 << 33
_LAYOUT = f"""
CREATE TABLE reports (
    id INTEGER PRIMARY KEY, boot TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL,
    subject INTEGER NOT NULL, folded INTEGER NOT NULL DEFAULT 1, sends INTEGER NOT NULL DEFAULT 0,
    deferred INTEGER NOT NULL DEFAULT 0, put_s INTEGER NOT NULL DEFAULT 0, UNIQUE (boot, seq));
CREATE INDEX reports_in_order ON reports (deferred, id);
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY, boot TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL);
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE used (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT INTO used VALUES ('reports', 0), ('quarantine', 0);
CREATE TRIGGER reports_come AFTER INSERT ON reports BEGIN
    UPDATE used SET bytes = bytes + LENGTH(NEW.body) + {ROW_OVERHEAD_BYTES} WHERE name = 'reports'; END;
CREATE TRIGGER reports_go AFTER DELETE ON reports BEGIN
    UPDATE used SET bytes = bytes - LENGTH(OLD.body) - {ROW_OVERHEAD_BYTES} WHERE name = 'reports'; END;
CREATE TRIGGER quarantine_comes AFTER INSERT ON quarantine BEGIN
    UPDATE used SET bytes = bytes + LENGTH(NEW.body) + {ROW_OVERHEAD_BYTES} WHERE name = 'quarantine'; END;
CREATE TRIGGER quarantine_goes AFTER DELETE ON quarantine BEGIN
    UPDATE used SET bytes = bytes - LENGTH(OLD.body) - {ROW_OVERHEAD_BYTES} WHERE name = 'quarantine'; END;
PRAGMA user_version = {_LAYOUT_VERSION};
"""
_FROM_1_TO_2 = """
ALTER TABLE reports ADD COLUMN put_s INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
"""
_COLUMNS_OF_1 = "boot, seq, body, crc, subject, folded, sends, deferred"
_COLUMNS = f"{_COLUMNS_OF_1}, put_s"


class SpoolFile:
    """`run(work)` gives a connection inside a transaction of its own, from any thread of this process."""

    def __init__(self, path: Path, on_notice: Callable[[str], None] | None) -> None:
        self.path = path
        self._on_notice = on_notice
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._has_ended = False
        self._reserve = Reserve(path.with_name(f"{path.name}-reserve"))

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`'s result, after the commit; nothing has changed when it raises.

        On a full disk `work` runs on the reserve, where it succeeds unless it makes the file grow: SpoolFullError.
        A damaged file is put aside as `NAME.damaged`, what can still be read is taken over, and `work` runs again.
        DeviceError for what else the disk does.
        """
        with self._lock:
            try:
                try:
                    return self._attempt(work)
                except sqlite3.Error as error:
                    if not _means_full(error):
                        raise
                    return self._attempt_on_reserve(work)
            except sqlite3.Error as error:
                if not _means_damaged(error):
                    raise self._failed(error) from error
                reason = str(error)
            try:
                self._start_anew(reason)
                return self._attempt(work)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Closes the file; the next `run` opens it again."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                with suppress(sqlite3.Error):
                    db.close()

    def end(self) -> None:
        """Closes the file for good: it is somebody else's from now on, whoever still holds this object."""
        self._has_ended = True
        self.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._has_ended:
            raise DeviceError(f"spool {self.path} was let go")
        if self._db is None:
            self._db = self._open()
        db = self._db
        try:
            with _readable_errors():
                db.execute("BEGIN")
                result = work(db)
                db.execute("COMMIT")
        except BaseException:
            try:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()
            raise
        return result

    def _attempt_on_reserve(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Within the pages that the file has. Raises sqlite3.Error as `_attempt` does."""
        self._reserve.give()
        db = self._db or self._open()
        self._db = db
        limit, pages = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("max_page_count", "page_count"))
        try:
            _empty_log(db)
            db.execute(f"PRAGMA max_page_count = {pages}")
            result = self._attempt(work)
            _empty_log(db)
            return result
        finally:
            with suppress(sqlite3.Error):  # it was closed
                db.execute(f"PRAGMA max_page_count = {limit}")
            self._reserve.keep()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceError(f"spool {self.path}: its folder cannot be made: {error.strerror}") from error
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            with _readable_errors():
                self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._reserve.keep()
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        # Exclusive: a second agent on the same file is told so at once, and WAL needs no shared memory file.
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 256",
            "journal_size_limit = 1048576",
            "cache_size = -512",
        ):
            db.execute(f"PRAGMA {pragma}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            db.executescript(f"BEGIN; {_LAYOUT} COMMIT;")
        elif version == 1:
            db.executescript(f"BEGIN; {_FROM_1_TO_2} COMMIT;")
        elif version != _LAYOUT_VERSION:
            raise sqlite3.DatabaseError(f"it has layout {version}, not {_LAYOUT_VERSION}")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))

    def _start_anew(self, reason: str) -> None:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            for suffix in ("", "-wal"):
                source = self.path.with_name(self.path.name + suffix)
                target = aside.with_name(aside.name + suffix)
                target.unlink(missing_ok=True)
                if source.exists():
                    source.replace(target)
            self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
        except OSError as error:
            raise DeviceError(f"spool {self.path} is damaged and cannot be put aside: {error.strerror}") from error
        self._db = self._open()
        saved = _take_over(aside, self._db)
        self._attempt(lambda db: add_count(db, "moved_aside", 1))
        if self._on_notice is not None:
            first_line = " ".join(reason.split())[:120]
            self._on_notice(
                f"spool {self.path} was damaged ({first_line}): put aside as {aside.name}, {saved} reports saved"
            )

    def _failed(self, error: sqlite3.Error) -> DeviceError:
        text = str(error)
        if _means_full(error):
            return SpoolFullError(f"spool {self.path}: the disk is full", hint="free some space")
        self.close()  # after an I/O error only a new connection is sure of what is on the disk
        if "locked" in text:
            return DeviceError(f"spool {self.path} is used by another agent", hint="stop it or choose another --state")
        if "readonly" in text or "unable to open" in text:
            return DeviceError(f"spool {self.path} cannot be written: {text}", hint="check the folder's permissions")
        return DeviceError(f"spool {self.path}: {text}")


@contextmanager
def _readable_errors() -> Iterator[None]:
    """SQLite quotes the file in its messages, and Python fails over those that a damaged one makes no text."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("its schema is no text") from error


def add_count(db: sqlite3.Connection, name: str, value: int) -> None:
    """Adds to one of the spool's lasting counts."""
    if value:
        db.execute(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, value),
        )


def _empty_log(db: sqlite3.Connection) -> None:
    """Bring the log's pages into the file and give its room back."""
    with suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _means_full(error: sqlite3.Error) -> bool:
    return "full" in str(error)


def _means_damaged(error: sqlite3.Error) -> bool:
    # SQLITE_CORRUPT and SQLITE_NOTADB come as DatabaseError itself, everything else as a subclass of it. SQLITE_TOOBIG
    # (DataError) is a length that a torn page claims: what is put here is small.
    return (
        type(error) in (sqlite3.DatabaseError, sqlite3.DataError)
        or "no such table" in str(error)
        or "no such column" in str(error)
    )


def _take_over(damaged: Path, db: sqlite3.Connection) -> int:
    """Copies the reports that can still be read out of a damaged file; how many those are.

    From both ends, as what is damaged is mostly one place. Rows keep their ids, so that they keep their order.
    """
    saved = 0
    with suppress(OSError):
        _pad(damaged)
    for direction in ("ASC", "DESC"):
        with suppress(sqlite3.Error), _readable_errors():
            old = sqlite3.connect(damaged, isolation_level=None, timeout=0.0)
            try:
                of_2 = old.execute("PRAGMA user_version").fetchone()[0] >= 2
                columns = f"id, {_COLUMNS if of_2 else _COLUMNS_OF_1}"
                marks = ", ".join("?" * len(columns.split(",")))
                for row in old.execute(f"SELECT {columns} FROM reports ORDER BY id {direction}"):
                    # What is wrong in a body shows by its checksum when it is read again.
                    with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):  # a row of nonsense is one row
                        saved += db.execute(f"INSERT OR IGNORE INTO reports ({columns}) VALUES ({marks})", row).rowcount
            finally:
                old.close()
    return saved


def _pad(damaged: Path) -> None:
    """Make a file that was cut short as long as it says it is: SQLite reads nothing from one that is not.

    Its header tells page size and count at 16 and 28 (https://sqlite.org/fileformat2.html, 1.3).
    """
    with damaged.open("r+b") as file:
        header = file.read(32)
        page_bytes = int.from_bytes(header[16:18], "big")
        size = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
        if header.startswith(b"SQLite format 3\0") and file.seek(0, 2) < size <= _LARGEST_FILE_BYTES:
            file.truncate(size)
