"""What the live fleet and its views ask the store's tables themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc as sql_errors
from sqlalchemy import func, select

from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.schema import DEVICES, EVENTS, REPORTS
from edgeloop.telemetry.store.selecting import conditions
from edgeloop.telemetry.store.selection import Selection

MAX_EVENTS = 5000
"""With a mark in one picture."""


@contextmanager
def available() -> Iterator[None]:
    """A database's error as StoreUnavailableError."""
    try:
        yield
    except sql_errors.DBAPIError as error:
        raise StoreUnavailableError(f"the store is not available: {error.orig}") from error


def devices_since(database: Database, report_id: int) -> list[tuple[str, float]]:
    """(device, when its last report came in) of those with a report after `report_id`."""
    chosen = select(DEVICES.c.device, DEVICES.c.last_received_s).where(DEVICES.c.last_report_id > report_id)
    with available(), database.reader.connect() as connection:
        return [(row.device, row.last_received_s) for row in connection.execute(chosen)]


def events_of(database: Database, device: str, limit: int = 100) -> list[dict[str, Any]]:
    """A device's last events, the newest first: {kind, time_s, detail}."""
    chosen = (
        select(EVENTS.c.kind, EVENTS.c.time_s, EVENTS.c.detail)
        .join(REPORTS, REPORTS.c.id == EVENTS.c.report_id)
        .join(DEVICES, DEVICES.c.id == REPORTS.c.device_id)
        .where(DEVICES.c.device == device)
        .order_by(REPORTS.c.id.desc(), EVENTS.c.position.desc())
        .limit(limit)
    )
    with available(), database.reader.connect() as connection:
        return [dict(row) for row in connection.execute(chosen).mappings()]


def marked_events(database: Database, selection: Selection, kinds: Sequence[str]) -> list[tuple[str, float]]:
    """(kind, time_s) of the newest events of these kinds, in reports that `selection` takes."""
    chosen = (
        select(EVENTS.c.kind, EVENTS.c.time_s)
        .join(REPORTS, REPORTS.c.id == EVENTS.c.report_id)
        .join(DEVICES, DEVICES.c.id == REPORTS.c.device_id)
        .where(EVENTS.c.kind.in_(kinds), *conditions(selection))
        .order_by(EVENTS.c.report_id.desc())
        .limit(MAX_EVENTS)
    )
    with available(), database.reader.connect() as connection:
        return [(row.kind, row.time_s) for row in connection.execute(chosen)]


def first_seen(database: Database) -> dict[tuple[str, int], float]:
    """When the first report of each (bundle, version) came in. Reads the whole table: not for every request."""
    chosen = select(REPORTS.c.bundle, REPORTS.c.version, func.min(REPORTS.c.received_s))
    with available(), database.reader.connect() as connection:
        rows = connection.execute(chosen.group_by(REPORTS.c.bundle, REPORTS.c.version))
        return {(bundle, version): seen for bundle, version, seen in rows}
