"""The tables of the reports, and making them in a database."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
)

from edgeloop.errors import ConfigError, DataError
from edgeloop.telemetry.store.migrations import MIGRATIONS, Migration
from edgeloop.telemetry.store.tables import load_tables

SCHEMA_VERSION = 2

METADATA = MetaData()
"""No foreign keys: a store that only its own code writes pays for them with every report, and gets nothing."""

# SQLite numbers rows itself only for a column declared INTEGER; everywhere else ids are 64 bits wide.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")

META = Table("edgeloop_meta", METADATA, Column("schema_version", Integer, nullable=False))

DEVICES = Table(
    "devices",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    Column("device", Text, nullable=False, unique=True),
    Column("first_received_s", Double, nullable=False),
    Column("last_received_s", Double, nullable=False),
    Column("reports", BigInteger, nullable=False),  # totals, so that a page need not scan the reports
    Column("inferences", Double, nullable=False),  # a float: a sum of integers from strangers can overflow
    Column("last_report_id", BigInteger),
)

REPORTS = Table(
    "reports",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    Column("device_id", BigInteger, nullable=False),
    Column("boot", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_s", Double, nullable=False),  # the collector's clock; a board without a battery may be years off
    Column("time_s", Double, nullable=False),  # when it was made; by the device's clock: in `body`
    Column("bundle", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("variant", Text, nullable=False),
    Column("delegate_ran", Text, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # all of it, as it was sent: report_codec
    UniqueConstraint("device_id", "boot", "seq", name="report_key"),
    Index("reports_by_device", "device_id", "id"),
    Index("reports_by_time", "time_s"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("report_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("time_s", Double, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_with_rowid=False,
)

QUARANTINE = Table(
    "quarantine",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    Column("received_s", Double, nullable=False),
    Column("device", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)


def prepare(
    connection: Connection,
    *,
    current: int = SCHEMA_VERSION,
    migrations: Mapping[int, Migration] = MIGRATIONS,
) -> None:
    """Make the tables in an empty database, or bring an older store forward. Call inside a write transaction.

    Raises DataError for a database that is not ours, ConfigError for a store made by a newer edgeloop.
    """
    load_tables()
    present = set(inspect(connection).get_table_names())
    if META.name not in present:
        foreign = present & set(METADATA.tables)
        if foreign:
            raise DataError(
                f"the database already has a table '{min(foreign)}' that is not edgeloop's",
                hint="give the telemetry store a file or database of its own",
            )
        create_tables(connection)
        connection.execute(META.insert(), {"schema_version": current})
        return
    for version in range(_version(connection, current), current):
        migrations[version](connection, METADATA)
        connection.execute(META.update(), {"schema_version": version + 1})


def create_tables(connection: Connection) -> None:
    """Those that are not there."""
    if connection.dialect.name == "postgresql":
        from edgeloop.telemetry.store.postgresql import create_reports

        create_reports(connection)
    METADATA.create_all(connection, checkfirst=True)


def is_current(connection: Connection) -> bool:
    """Whether `prepare` has nothing to do; a reader need not wait for the write lock then. Raises as `prepare`."""
    return inspect(connection).has_table(META.name) and _version(connection, SCHEMA_VERSION) == SCHEMA_VERSION


def _version(connection: Connection, known: int) -> int:
    found: int = connection.execute(select(META.c.schema_version)).scalar_one()
    if found > known:
        raise ConfigError(
            f"the store has schema {found}, this edgeloop knows up to {known}",
            hint="use the edgeloop version that made it, or a newer one",
        )
    return found
