"""The store in PostgreSQL 15 or newer, for several collectors at once; `edgeloop[postgresql]` brings the driver.

`reports` is partitioned by the day of arrival. A unique key of such a table can only hold within a partition, so keys
have a table of their own: a report is new when its key went in there, in the same transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from edgeloop.errors import DataError, MissingExtraError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rows import COLUMNS, EVENT_COLUMNS, KEY
from edgeloop.telemetry.store.shown import without_secrets

MIN_VERSION = 15
_DAY_S = 86_400
_DROP_PATIENCE_MS = 200
_CONNECT_TIMEOUT_S = 10
_LOCK = 0x65646765  # "edge": the advisory lock that writers share and `settle` takes alone
_UPKEEP_LOCK = _LOCK + 1
_TYPES = ("int8", "text", "int8", "float8", "float8", "text", "int8", "text", "text", "int8", "bytea", "int4")
_STAGED = (*COLUMNS, "position")

_TABLES = (
    "CREATE SEQUENCE IF NOT EXISTS report_ids",
    "CREATE TABLE IF NOT EXISTS report_keys"
    " (device_id bigint NOT NULL, boot text NOT NULL, seq bigint NOT NULL, PRIMARY KEY (device_id, boot, seq))",
    "CREATE TABLE IF NOT EXISTS reports ("
    " id bigint NOT NULL, device_id bigint NOT NULL, boot text NOT NULL, seq bigint NOT NULL,"
    " received_s double precision NOT NULL, time_s double precision NOT NULL, bundle text NOT NULL,"
    " version bigint NOT NULL, variant text NOT NULL, delegate_ran text NOT NULL, inferences bigint NOT NULL,"
    " body bytea NOT NULL) PARTITION BY RANGE (received_s)",
    "CREATE INDEX IF NOT EXISTS reports_by_id ON reports (id)",
    "CREATE INDEX IF NOT EXISTS reports_by_device ON reports (device_id, id)",
    "CREATE INDEX IF NOT EXISTS reports_by_time ON reports (time_s)",
)
_STAGING = "CREATE TEMPORARY TABLE staged ({}) ON COMMIT DELETE ROWS".format(
    ", ".join(f"{name} {kind}" for name, kind in zip(_STAGED, _TYPES, strict=True))
)
_EVENT_TYPES = ("int8", "int4", "text", "float8", "text")
_COPY_EVENTS = f"COPY events ({', '.join(EVENT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
_COPY = f"COPY staged ({', '.join(_STAGED)}) FROM STDIN (FORMAT BINARY)"
# In the order of keys, so that two collectors with the same reports wait for each other in a line and not in a circle.
_MOVE = f"""
WITH first AS (
    SELECT DISTINCT ON ({", ".join(KEY)}) * FROM staged ORDER BY {", ".join(KEY)}, position
), added AS (
    INSERT INTO report_keys ({", ".join(KEY)})
    SELECT {", ".join(KEY)} FROM first ORDER BY {", ".join(KEY)} ON CONFLICT DO NOTHING RETURNING {", ".join(KEY)}
), new AS (
    SELECT first.*, nextval('report_ids') AS id FROM first JOIN added USING ({", ".join(KEY)}) ORDER BY position
), moved AS (
    INSERT INTO reports (id, {", ".join(COLUMNS)}) SELECT id, {", ".join(COLUMNS)} FROM new
)
SELECT position, id FROM new
"""


def connect(url: str, *, create: bool, busy_timeout_s: float) -> Database:
    """Raises MissingExtraError without the driver; a database that is not there shows at the first use.

    create: makes no difference, the database itself is made by whoever runs the server.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("a store in PostgreSQL", "postgresql") from error
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    shown = without_secrets(url)
    waits = f"-c lock_timeout={round(busy_timeout_s * 1000)}"
    reader = _engine(parsed, isolation_level="REPEATABLE READ")  # what is read in one transaction belongs together
    writer = _engine(parsed, connect_args={"options": waits})
    event.listen(reader, "first_connect", lambda connection, _record: _check_version(connection, shown))
    partitions = _Partitions(writer)

    def add_reports(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[int | None]:
        partitions.make({row[COLUMNS.index("received_s")] for row in rows})
        try:
            return _add(connection, rows)
        except IntegrityError as error:
            if not isinstance(error.orig, psycopg.errors.CheckViolation):
                raise
            partitions.forget_days()  # another gateway, whose clock is days ahead, has dropped the day
            raise OperationalError("COPY", None, error.orig) from error

    return Database(
        shown, reader, writer, insert, add_reports, add_events, settle, partitions.forget, partitions.drop_empty,
        writers=2, upkeep_turn=partial(_upkeep_turn, writer),
    )  # fmt: skip


@contextmanager
def _upkeep_turn(engine: Engine) -> Iterator[bool]:
    """`Database.upkeep_turn`. The lock is the session's: it goes with whoever holds it, however that ends."""
    with engine.connect() as connection:
        mine = bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_UPKEEP_LOCK})").scalar_one())
        connection.commit()  # nothing stays open meanwhile, which would hold up the database's own upkeep
        try:
            yield mine
        finally:
            if mine:
                try:
                    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_UPKEEP_LOCK})")
                    connection.commit()
                except DBAPIError:  # the session has ended, and the lock with it
                    connection.invalidate()


def create_reports(connection: Connection) -> None:
    """What `METADATA.create_all` cannot make as it is here."""
    for statement in _TABLES:
        connection.execute(text(statement))


def settle(connection: Connection) -> None:
    """`Database.settle`: ids are given before their transaction ends, so the highest is not the last one to appear."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def add_events(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """`dialects.AddEvents`."""
    with _as_sqlalchemy(connection) as driver, driver.cursor() as cursor:
        _copy(cursor, _COPY_EVENTS, _EVENT_TYPES, rows)


def _add(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[int | None]:
    with _as_sqlalchemy(connection) as driver:
        return _copy_and_move(driver, rows)


@contextmanager
def _as_sqlalchemy(connection: Connection) -> Iterator[Any]:
    """The driver's connection; its errors come as from a statement that SQLAlchemy ran."""
    import psycopg

    driver: Any = connection.connection.driver_connection
    try:
        yield driver
    except psycopg.Error as error:
        raise DBAPIError.instance(
            "COPY", None, error, psycopg.Error, connection_invalidated=driver.closed, dialect=connection.dialect
        ) from error


def _copy_and_move(driver: Any, rows: Sequence[tuple[Any, ...]]) -> list[int | None]:
    with driver.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
        _copy(cursor, _COPY, _TYPES, [(*row, position) for position, row in enumerate(rows)])
        cursor.execute(_MOVE)
        ids: list[int | None] = [None] * len(rows)
        for position, report_id in cursor:
            ids[position] = report_id
    return ids


def _copy(cursor: Any, statement: str, types: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    with cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _engine(url: URL, **options: Any) -> Engine:
    arguments = {"connect_timeout": _CONNECT_TIMEOUT_S, **options.pop("connect_args", {})}
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, **options)
    event.listen(engine, "connect", lambda connection, _record: _make_staging(connection))
    return engine


def _make_staging(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_STAGING)
    connection.commit()


def _check_version(connection: Any, shown: str) -> None:
    if connection.info.server_version < MIN_VERSION * 10_000:
        found = connection.info.server_version // 10_000
        raise DataError(f"{shown} is PostgreSQL {found}, the store needs {MIN_VERSION} or newer")


class _Partitions:
    """A table for each day of arrival, made before the first report of that day goes in."""

    def __init__(self, writer: Engine) -> None:
        self._writer = writer
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def make(self, received_s: set[float]) -> None:
        """In a transaction of its own: it is there for the others, too, whatever becomes of the reports."""
        days = {int(each // _DAY_S) for each in received_s}
        with self._lock:
            for day in sorted(days - self._known):
                with self._writer.begin() as connection:
                    settle(connection)
                    connection.exec_driver_sql(
                        f"CREATE TABLE IF NOT EXISTS reports_{_name(day)} PARTITION OF reports"
                        f" FOR VALUES FROM ({day * _DAY_S}) TO ({(day + 1) * _DAY_S})"
                    )
                self._known.add(day)

    def forget_days(self) -> None:
        """The next report makes its day anew, should it be gone."""
        with self._lock:
            self._known.clear()

    def drop_empty(self, before_s: float) -> None:
        """`Database.drop_empty`. A day more is left for gateways whose clocks differ. Who reads or writes just now is
        not waited for: the next turn tries again."""
        with self._writer.connect() as connection:
            names = connection.exec_driver_sql(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'reports'::regclass"
            ).scalars().all()  # fmt: skip
        for name in names:
            if (_day(name) + 2) * _DAY_S <= before_s:
                with suppress(OperationalError, ProgrammingError):  # another gateway may have been quicker
                    self._drop_if_empty(name)

    def _drop_if_empty(self, partition: str) -> None:
        with self._writer.connect() as connection:  # without a lock that others would wait for
            if _has_rows(connection, partition):
                return
        with self._writer.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_DROP_PATIENCE_MS}")
            connection.exec_driver_sql(f"LOCK TABLE ONLY reports, {partition} IN ACCESS EXCLUSIVE MODE")
            if not _has_rows(connection, partition):
                connection.exec_driver_sql(f"DROP TABLE {partition}")
        self.forget_days()

    def forget(self, connection: Connection, ids: Sequence[int]) -> None:
        """`Database.forget`."""
        connection.exec_driver_sql(
            "DELETE FROM report_keys k USING reports r WHERE r.id = ANY(%(ids)s)"
            " AND k.device_id = r.device_id AND k.boot = r.boot AND k.seq = r.seq",
            {"ids": list(ids)},
        )


def _has_rows(connection: Connection, partition: str) -> bool:
    return bool(connection.exec_driver_sql(f"SELECT EXISTS (SELECT 1 FROM {partition})").scalar_one())


def _name(day: int) -> str:
    return f"d{day}" if day >= 0 else f"b{-day}"


def _day(partition: str) -> int:
    sign, digits = partition.removeprefix("reports_")[:1], partition.removeprefix("reports_")[1:]
    return int(digits) * (1 if sign == "d" else -1)
