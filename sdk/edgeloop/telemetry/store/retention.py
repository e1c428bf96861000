"""What is kept for how long, and deleting the rest in steps so small that nobody waits for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, select

from edgeloop.errors import UsageError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rollups import DAY_S, HOUR_S, Scope, folded_id
from edgeloop.telemetry.store.schema import DEVICES, EVENTS, REPORTS
from edgeloop.telemetry.store.tables.rollups import ROLLUPS

STEP_ROWS = 1000


@dataclass(frozen=True)
class Retention:
    """Days that reports and hourly roll-ups are kept; None: forever, as daily roll-ups are.

    A report is only deleted once it is in the roll-ups, and the last one of each device stays. As long as a report is
    kept, another one with its key is known to be a duplicate.
    """

    report_days: float | None = None
    hourly_days: float | None = None


def parse_days(text: str, flag: str) -> float | None:
    """`30d`, `12w`, `720h`; `forever` is None. Raises UsageError."""
    if text == "forever":
        return None
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if not found or not int(found[1]):
        raise UsageError(f"{flag}: not a time to keep something: {text!r}", hint="for example 30d, 12w or forever")
    return int(found[1]) * {"h": 1 / 24, "d": 1.0, "w": 7.0}[found[2]]


def delete_reports(database: Database, before_s: float) -> int:
    """Delete some reports that came in before (unix seconds, the collector's clock) and are folded; how many it were.

    0 when there is nothing left to delete.
    """
    with database.reader.connect() as connection:
        folded = min(folded_id(connection, scope) for scope in Scope)
        last = min(folded, _last_before(connection, before_s))
        r = REPORTS.c
        kept = exists().where(DEVICES.c.last_report_id == r.id, DEVICES.c.id == r.device_id)
        chosen = select(r.id).where(r.id <= last, ~kept).order_by(r.id).limit(STEP_ROWS)
        ids = list(connection.execute(chosen).scalars())
    if ids:
        with database.writer.begin() as connection:
            database.forget(connection, ids)
            connection.execute(delete(EVENTS).where(EVENTS.c.report_id.in_(ids)))
            connection.execute(delete(REPORTS).where(REPORTS.c.id.in_(ids)))
    return len(ids)


def delete_hours(database: Database, before_s: float) -> int:
    """Delete some hourly roll-ups of hours before (unix seconds, the devices' clocks); how many it were."""
    c = ROLLUPS.c
    old = (c.width_s == HOUR_S, c.start_s < before_s - HOUR_S)
    with database.writer.begin() as connection:
        start = connection.execute(select(func.min(c.start_s)).where(*old)).scalar()
        if start is None:
            return 0
        return connection.execute(delete(ROLLUPS).where(c.width_s == HOUR_S, c.start_s == start)).rowcount


def delete_old(database: Database, retention: Retention, now_s: float) -> bool:
    """One step of each kind; whether there may be more."""
    deleted = 0
    if retention.report_days is not None:
        before_s = now_s - retention.report_days * DAY_S
        deleted += delete_reports(database, before_s)
        if not deleted:
            database.drop_empty(before_s)
    if retention.hourly_days is not None:
        deleted += delete_hours(database, now_s - retention.hourly_days * DAY_S)
    return deleted > 0


def _last_before(connection: Connection, before_s: float) -> int:
    """The id behind which reports came in later; found by halving, as ids grow with the time of arrival."""
    r = REPORTS.c
    low = int(connection.execute(select(func.coalesce(func.min(r.id), 0))).scalar_one()) - 1
    high = int(connection.execute(select(func.coalesce(func.max(r.id), 0))).scalar_one())
    while low < high:
        middle = (low + high + 1) // 2
        at = select(r.received_s).where(r.id >= middle).order_by(r.id).limit(1)
        received_s = connection.execute(at).scalar()
        if received_s is not None and received_s < before_s:
            low = middle
        else:
            high = middle - 1
    return low
