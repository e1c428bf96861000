"""Reports summed up by hour and day, so that questions about weeks need not read every report.

A roll-up holds, per hour or day of the device's clock and per model, the number of reports and inferences and the
merged histograms of all stages. There are two scopes of them, each behind a watermark of its own: `Scope.ALL` sums up
all devices (few rows, kept close to the newest report), `Scope.DEVICE` keeps them apart (folded in larger steps, since
every step writes the rows of all devices that reported). What lies behind a watermark is read from the reports
themselves, so an answer is exact at any time.

The watermark moves in the transaction that writes the roll-ups: a process that is killed leaves both or neither. It
moves by compare-and-set: of two collectors that fold the same reports, one wins and the other tries again later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import cbor2
from sqlalchemy import Connection, and_, func, select, tuple_

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.schema import REPORTS
from edgeloop.telemetry.store.tables.rollups import ALL_DEVICES, MODELS, ROLLUP_STATE, ROLLUPS
from edgeloop.telemetry.wire.histogram_arrays import merged
from edgeloop.telemetry.wire.report_codec import latency_wires

HOUR_S, DAY_S = 3600, 86_400
WIDTHS = (HOUR_S, DAY_S)
_PAGE_ROWS = 400

Model = tuple[str, int, str, str]
Key = tuple[int, int, int, int]
"""(width_s, device_id, start_s, model_id), as in the table."""


class Scope(IntEnum):
    """Numbers are in stores; never change them."""

    ALL = 0
    DEVICE = 1


@dataclass
class _Sum:
    reports: int = 0
    inferences: float = 0.0


def folded_id(connection: Connection, scope: Scope) -> int:
    """The scope's watermark; 0 when nothing was folded yet."""
    found = connection.execute(select(ROLLUP_STATE.c.folded_id).where(ROLLUP_STATE.c.scope == scope)).scalar()
    return int(found or 0)


def waiting(database: Database, scope: Scope) -> int:
    """About how many reports are not folded yet; never too few."""
    with database.reader.connect() as connection:
        last = connection.execute(select(func.coalesce(func.max(REPORTS.c.id), 0))).scalar_one()
        return int(last) - folded_id(connection, scope)


def fold(database: Database, scope: Scope, limit: int) -> int:
    """Fold the next `limit` reports at most; how many it were. 0 too when another process did it just now.

    Reads and merges without a lock; only the writing of the sums is in a write transaction.
    """
    with database.writer.begin() as connection:
        database.settle(connection)
        last = int(connection.execute(select(func.coalesce(func.max(REPORTS.c.id), 0))).scalar_one())
        if not connection.execute(select(ROLLUP_STATE.c.scope).where(ROLLUP_STATE.c.scope == scope)).all():
            new = {"scope": int(scope), "folded_id": 0}
            connection.execute(database.insert_or_ignore(ROLLUP_STATE).on_conflict_do_nothing(), new)
    with database.reader.connect() as connection:
        before = folded_id(connection, scope)
        r = REPORTS.c
        columns = (r.id, r.device_id, r.time_s, r.bundle, r.version, r.variant, r.delegate_ran, r.inferences, r.body)
        chosen = select(*columns).where(r.id > before, r.id <= last).order_by(r.id).limit(limit)
        rows = connection.execute(chosen).all()
    if not rows:
        return 0
    models = _model_ids(database, {(row.bundle, row.version, row.variant, row.delegate_ran) for row in rows})
    with database.reader.connect() as connection:
        values = _add_up(connection, scope, rows, models)
    with database.writer.begin() as connection:
        state = ROLLUP_STATE.c
        moved = connection.execute(
            ROLLUP_STATE.update().where(state.scope == scope, state.folded_id == before).values(folded_id=rows[-1].id)
        )
        if moved.rowcount != 1:
            return 0
        _write(connection, database, values)
    return len(rows)


def _model_ids(database: Database, models: set[Model]) -> dict[Model, int]:
    columns = (MODELS.c.bundle, MODELS.c.version, MODELS.c.variant, MODELS.c.delegate_ran)
    names = [column.name for column in columns]

    def known(connection: Connection) -> dict[Model, int]:
        found: dict[Model, int] = {}
        wanted = sorted(models)
        for start in range(0, len(wanted), _PAGE_ROWS):
            some = tuple_(*columns).in_(wanted[start : start + _PAGE_ROWS])
            for row in connection.execute(select(MODELS.c.id, *columns).where(some)):
                found[row.bundle, row.version, row.variant, row.delegate_ran] = row.id
        return found

    with database.reader.connect() as connection:
        found = known(connection)
    if missing := models - set(found):
        with database.writer.begin() as connection:
            adding = database.insert_or_ignore(MODELS).on_conflict_do_nothing()
            connection.execute(adding, [dict(zip(names, model, strict=True)) for model in sorted(missing)])
            found = known(connection)
    return found


def _add_up(
    connection: Connection, scope: Scope, rows: Sequence[Any], models: Mapping[Model, int]
) -> list[dict[str, Any]]:
    """The new values of every row that these reports change."""
    sums: dict[Key, _Sum] = {}
    groups: dict[tuple[Key, str], int] = {}
    wires: list[bytes] = []
    of: list[int] = []
    for row in rows:
        device_id = row.device_id if scope is Scope.DEVICE else ALL_DEVICES
        model_id = models[row.bundle, row.version, row.variant, row.delegate_ran]
        for width_s in WIDTHS:
            key = width_s, device_id, int(row.time_s // width_s) * width_s, model_id
            total = sums.setdefault(key, _Sum())
            total.reports += 1
            total.inferences += row.inferences
        hour = HOUR_S, device_id, int(row.time_s // HOUR_S) * HOUR_S, model_id
        for stage, wire in latency_wires(row.body).items():
            wires.append(wire)
            of.append(groups.setdefault((hour, stage), len(groups)))
    parts: dict[Key, dict[str, Histogram]] = {key: {} for key in sums}
    for (hour, stage), histogram in zip(groups, merged(wires, of, len(groups)), strict=True):
        day = DAY_S, hour[1], hour[2] // DAY_S * DAY_S, hour[3]
        parts[hour][stage] = histogram
        known = parts[day].get(stage)
        parts[day][stage] = known.merge(histogram) if known is not None else histogram
    for old in _existing(connection, list(sums)):
        key = old.width_s, old.device_id, old.start_s, old.model_id
        sums[key].reports += old.reports
        sums[key].inferences += old.inferences
        for stage, wire in cbor2.loads(old.latency).items():
            before = Histogram.from_wire(wire, max_count=None)
            mine = parts[key].get(stage)
            parts[key][stage] = before.merge(mine) if mine is not None else before
    return [
        {
            **dict(zip(("width_s", "device_id", "start_s", "model_id"), key, strict=True)),
            "reports": total.reports,
            "inferences": total.inferences,
            "latency": cbor2.dumps({stage: part.to_wire() for stage, part in parts[key].items()}),
        }
        for key, total in sums.items()
    ]


def _existing(connection: Connection, keys: Sequence[Key]) -> Iterable[Any]:
    c = ROLLUPS.c
    for start in range(0, len(keys), _PAGE_ROWS):
        some = keys[start : start + _PAGE_ROWS]
        yield from connection.execute(
            select(ROLLUPS).where(tuple_(c.width_s, c.device_id, c.start_s, c.model_id).in_(some))
        )


def _write(connection: Connection, database: Database, values: Sequence[Mapping[str, Any]]) -> None:
    adding = database.insert_or_ignore(ROLLUPS)
    changed = {name: getattr(adding.excluded, name) for name in ("reports", "inferences", "latency")}
    key = [column.name for column in ROLLUPS.primary_key]
    connection.execute(adding.on_conflict_do_update(index_elements=key, set_=changed), list(values))


# -- reading


@dataclass(frozen=True)
class Times:
    """A time range, cut at whole hours and days. Bounds in unix seconds, None for no bound, the end excluded.

    rollups: (width_s, since, until) to read from roll-ups. reports: what is left at the ends, to read from reports.
    """

    rollups: tuple[tuple[int, int | None, int | None], ...]
    reports: tuple[tuple[float, float], ...]


def cut(since_s: float | None, until_s: float | None) -> Times | None:
    """None for a range without a whole hour in it."""
    if since_s is None and until_s is None:
        return Times(((DAY_S, None, None),), ())
    first_hour = None if since_s is None else _up(since_s, HOUR_S)
    last_hour = None if until_s is None else _down(until_s, HOUR_S)
    if first_hour is not None and last_hour is not None and first_hour >= last_hour:
        return None
    edges = []
    if since_s is not None and first_hour is not None and since_s < first_hour:
        edges.append((since_s, float(first_hour)))
    if until_s is not None and last_hour is not None and last_hour < until_s:
        edges.append((float(last_hour), until_s))
    first_day = None if first_hour is None else _up(first_hour, DAY_S)
    last_day = None if last_hour is None else _down(last_hour, DAY_S)
    if first_day is not None and last_day is not None and first_day >= last_day:
        return Times(((HOUR_S, first_hour, last_hour),), tuple(edges))
    spans: list[tuple[int, int | None, int | None]] = [(DAY_S, first_day, last_day)]
    if first_hour != first_day:
        spans.append((HOUR_S, first_hour, first_day))
    if last_hour != last_day:
        spans.append((HOUR_S, last_day, last_hour))
    return Times(tuple(spans), tuple(edges))


def spans_of(times: Times, scope: Scope) -> Iterator[Any]:
    """The roll-ups of `times` and `scope` as conditions, one for each part."""
    c = ROLLUPS.c
    owner = c.device_id == ALL_DEVICES if scope is Scope.ALL else c.device_id > ALL_DEVICES
    for width_s, since, until in times.rollups:
        within = [c.width_s == width_s, owner]
        if since is not None:
            within.append(c.start_s >= since)
        if until is not None:
            within.append(c.start_s < until)
        yield and_(*within)


def _up(seconds: float, width_s: int) -> int:
    return int(-(-seconds // width_s)) * width_s


def _down(seconds: float, width_s: int) -> int:
    return int(seconds // width_s) * width_s
