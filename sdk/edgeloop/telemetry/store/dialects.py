"""Everything that differs between databases, one module each: how to connect, and how reports go in quickly.

The rest of the store is plain SQLAlchemy Core.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from edgeloop.errors import UsageError
from edgeloop.telemetry.store.shown import without_secrets

AddReports = Callable[[Connection, Sequence[tuple[Any, ...]]], list[int | None]]
"""Rows in the order of `rows.COLUMNS` -> the id of each, None where its key was there already (or came before it)."""

AddEvents = Callable[[Connection, Sequence[tuple[Any, ...]]], None]
"""Rows in the order of `rows.EVENT_COLUMNS`, of reports that are new."""


@dataclass(frozen=True)
class Database:
    """A connected database: two engines on the same place, and the statements whose spelling differs.

    writer: its transactions take the write lock when they begin, where there is one, so that none fails half way.
    insert_or_ignore: an INSERT which can skip rows whose key is there already.
    settle: waits until no transaction is writing reports, so that each id up to the last one is there or never will be.
    writers: how many threads of a process are worth having: another decodes while one waits for the database, but where
        the database works in this process, too, they would only take the interpreter from each other.
    forget: drops what is kept of the reports with these ids beside their rows, before those are deleted.
    upkeep_turn: whether the upkeep is this one's for as long as the context lasts; one at a time of all collectors,
        where the database can tell. Work done twice is only wasted: the watermark decides which counts.
    drop_empty: gives back what deleting left empty of days that ended before (unix seconds).
    """

    url: str
    reader: Engine
    writer: Engine
    insert_or_ignore: Callable[[Table], Any]
    add_reports: AddReports
    add_events: AddEvents
    settle: Callable[[Connection], None]
    forget: Callable[[Connection, Sequence[int]], None]
    drop_empty: Callable[[float], None]
    writers: int = 1
    upkeep_turn: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True)

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
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        shown = without_secrets(url)
        raise UsageError(f"not a store URL: {shown!r}", hint="for example sqlite:///telemetry.db") from None
    if name not in DIALECTS:
        known = ", ".join(sorted(DIALECTS))
        raise UsageError(f"no telemetry store in {name!r}", hint=f"known: {known}; for example sqlite:///telemetry.db")
    return DIALECTS[name]


def _connecting(module: str) -> Dialect:
    def connect(url: str, *, create: bool, busy_timeout_s: float) -> Database:
        loaded = importlib.import_module(f"edgeloop.telemetry.store.{module}")
        database: Database = loaded.connect(url, create=create, busy_timeout_s=busy_timeout_s)
        return database

    return Dialect(connect)


DIALECTS: Mapping[str, Dialect] = {
    "sqlite": _connecting("sqlite"),
    "postgresql": _connecting("postgresql"),
}
