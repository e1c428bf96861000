"""The store in a SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import make_url

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rows import COLUMNS, EVENT_COLUMNS, KEY

# Rows of one statement. Python's module gives the interpreter lock away and asks for it again at every step, which
# takes up to 5 ms while another thread computes: so few steps, and few different statements, which it keeps prepared.
_CHUNKS = (64, 16, 4, 1)
_REPORTS = f"INSERT INTO reports ({', '.join(('id', *COLUMNS))}) VALUES {{}} ON CONFLICT ({', '.join(KEY)}) DO NOTHING"
_EVENTS = f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES {{}}"


def connect(url: str, *, create: bool, busy_timeout_s: float) -> Database:
    """Raises UsageError for a URL that names no file, DataError for a file or folder that is not there."""
    parsed = make_url(url)
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise UsageError(f"{url}: the store needs a file", hint="for example sqlite:///telemetry.db")
    path = Path(parsed.database)
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a store", hint="name a file in it")
    if not create and not path.exists():
        raise DataError(f"no telemetry store at {path}", hint=f"edgeloop collect --store {url} makes one")
    if not path.absolute().parent.is_dir():
        raise DataError(f"the folder of the store, {path.absolute().parent}, does not exist", hint="make it first")

    def engine(begin: str) -> Engine:
        made = create_engine(parsed, connect_args={"timeout": busy_timeout_s, "check_same_thread": False})
        event.listen(made, "connect", lambda connection, _record: _set_up(connection, busy_timeout_s))
        event.listen(made, "begin", lambda connection: _begin(connection, begin))
        return made

    return Database(
        url, engine("BEGIN"), engine("BEGIN IMMEDIATE"), insert, add_reports, add_events, _nothing, _nothing, _nothing
    )


def add_reports(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """`dialects.AddReports`. Ids are given here, as the write lock is held: what has its id afterwards is new."""
    # Not below the watermark of the roll-ups, should everything up to it have been deleted.
    last = (
        "SELECT max(coalesce((SELECT max(id) FROM reports), 0), coalesce((SELECT max(folded_id) FROM rollup_state), 0))"
    )
    first: int = connection.exec_driver_sql(last).scalar_one() + 1
    _insert(connection, _REPORTS, [(report_id, *row) for report_id, row in enumerate(rows, first)])
    new = connection.exec_driver_sql("SELECT id FROM reports WHERE id >= ?", (first,)).scalars().all()
    ids: list[int | None] = [None] * len(rows)
    for report_id in new:
        ids[report_id - first] = report_id
    return ids


def add_events(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """`dialects.AddEvents`."""
    _insert(connection, _EVENTS, rows)


def _insert(connection: Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    position = 0
    for size in _CHUNKS:
        while len(rows) - position >= size:
            values = tuple(chain.from_iterable(rows[position : position + size]))
            connection.exec_driver_sql(_insertion(into, size, len(rows[position])), values)
            position += size


@lru_cache(maxsize=2 * len(_CHUNKS))
def _insertion(into: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return into.format(", ".join([row] * rows))


def _nothing(*_: object) -> None:
    return


def _begin(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def _set_up(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """WAL lets readers and a writer work at once; FULL makes a commit survive a power cut, which the ack promises."""
    connection.isolation_level = None  # the module would begin transactions by itself, and too late for BEGIN IMMEDIATE
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Switching a new file to WAL does not wait for another process doing the same, whatever the timeout.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = FULL")
