"""Selections as SQL."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, func, select

from edgeloop.errors import DataError
from edgeloop.telemetry.store import Selection
from edgeloop.telemetry.store.schema import DEVICES, EVENTS, REPORTS

# SQLAlchemy 2.0 and 2.1 give `Select` different type parameters, hence Any.


def matching(selection: Selection, *more: ColumnElement[bool]) -> Any:
    columns = (REPORTS.c.id, REPORTS.c.received_s, REPORTS.c.body)
    joined = select(*columns).join(DEVICES, DEVICES.c.id == REPORTS.c.device_id)
    return joined.where(*conditions(selection), *more)


def events_matching(selection: Selection, kinds: Collection[str], after_id: int) -> Any:
    """Rows as StoredEvent has them, of reports after `after_id`, in the order of arrival."""
    columns = (REPORTS.c.id, REPORTS.c.received_s, DEVICES.c.device, REPORTS.c.bundle, EVENTS.c.kind, EVENTS.c.detail)
    joined = select(*columns).join(REPORTS, REPORTS.c.id == EVENTS.c.report_id)
    joined = joined.join(DEVICES, DEVICES.c.id == REPORTS.c.device_id)
    chosen = joined.where(EVENTS.c.report_id > after_id, EVENTS.c.kind.in_(kinds), *conditions(selection))
    return chosen.order_by(EVENTS.c.report_id, EVENTS.c.position)


def conditions(selection: Selection) -> list[ColumnElement[bool]]:
    r = REPORTS.c
    wanted = (
        (DEVICES.c.device, selection.device),
        (r.boot, selection.boot),
        (r.bundle, selection.bundle),
        (r.version, selection.version),
        (r.variant, selection.variant),
        (r.delegate_ran, selection.delegate),
    )
    met: list[ColumnElement[bool]] = [column == value for column, value in wanted if value is not None]
    # Pages go by id. With the bare column a database would be tempted to fetch and sort the whole range for each.
    time_s = r.time_s + 0.0
    if selection.since_s is not None:
        met.append(time_s >= selection.since_s)
    if selection.until_s is not None:
        met.append(time_s < selection.until_s)
    return met


def arrived_within(selection: Selection) -> Any:
    """(first id, last id) of the reports in its range of time, by the index on that; None where it has none. Reports
    come in nearly in the order of their times, so that little else lies between."""
    times = [REPORTS.c.time_s >= selection.since_s] if selection.since_s is not None else []
    times += [REPORTS.c.time_s < selection.until_s] if selection.until_s is not None else []
    # With the bare column a database would be tempted to go through the ids until one matches.
    some_id = REPORTS.c.id + 0
    return select(func.min(some_id), func.max(some_id)).where(*times) if times else None


_GROUPS = {
    "device": DEVICES.c.device,
    "boot": REPORTS.c.boot,
    "bundle": REPORTS.c.bundle,
    "version": REPORTS.c.version,
    "variant": REPORTS.c.variant,
    "delegate": REPORTS.c.delegate_ran,
}


def group_column(name: str) -> ColumnElement[Any]:
    if name not in _GROUPS:
        raise DataError(f"cannot group by {name!r}", hint=f"known: {', '.join(_GROUPS)}")
    return _GROUPS[name]
