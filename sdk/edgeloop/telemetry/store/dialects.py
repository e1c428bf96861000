"""Everything that differs between databases: how to connect, and which errors mean "not now".

The rest of the store is plain SQLAlchemy Core; PostgreSQL is one more entry in `DIALECTS`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from edgeloop.errors import DataError, UsageError


@dataclass(frozen=True)
class Database:
    """A connected database: two engines on the same place, and the one statement whose spelling differs.

    writer: its transactions take the write lock when they begin, so that none fails half way for want of it.
    insert_or_ignore: an INSERT which skips rows whose key is there already (takes RETURNING).
    """

    url: str
    reader: Engine
    writer: Engine
    insert_or_ignore: Callable[[Table], Any]

    def dispose(self) -> None:
        self.reader.dispose()
        self.writer.dispose()


@dataclass(frozen=True)
class Dialect:
    """connect(url, create, busy_timeout_s) -> Database."""

    connect: Callable[..., Database]


def find_dialect(url: str) -> Dialect:
    """Raises UsageError for anything that is not the URL of a database edgeloop can use."""
    try:
        name = make_url(url).get_backend_name()
    except ArgumentError:
        raise UsageError(f"not a store URL: {url!r}", hint="for example sqlite:///telemetry.db") from None
    if name not in DIALECTS:
        known = ", ".join(sorted(DIALECTS))
        raise UsageError(f"no telemetry store in {name!r}", hint=f"known: {known}; for example sqlite:///telemetry.db")
    return DIALECTS[name]


def _connect_sqlite(url: str, *, create: bool, busy_timeout_s: float) -> Database:
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
        event.listen(made, "connect", lambda connection, _record: _set_up_sqlite(connection, busy_timeout_s))
        event.listen(made, "begin", lambda connection: _begin(connection, begin))
        return made

    return Database(url, engine("BEGIN"), engine("BEGIN IMMEDIATE"), sqlite_insert)


def _begin(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def _set_up_sqlite(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
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


DIALECTS: Mapping[str, Dialect] = {
    "sqlite": Dialect(_connect_sqlite),
}
