"""Merged histograms of a selection: from roll-ups as far as they go, from the reports where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cbor2
from sqlalchemy import Connection, select, tuple_

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.store import Selection
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rollups import Scope, cut, folded_id, spans_of
from edgeloop.telemetry.store.schema import DEVICES, REPORTS
from edgeloop.telemetry.store.selecting import conditions, group_column
from edgeloop.telemetry.store.tables.rollups import MODELS, ROLLUPS
from edgeloop.telemetry.wire.histogram_arrays import merged
from edgeloop.telemetry.wire.report_codec import latency_wires

Group = tuple[str, ...]
_MERGE_WIRES = 20_000

_COLUMNS = {
    "device": DEVICES.c.device,
    "bundle": MODELS.c.bundle,
    "version": MODELS.c.version,
    "variant": MODELS.c.variant,
    "delegate": MODELS.c.delegate_ran,
}
"""What roll-ups can be chosen and grouped by; `boot` is only in the reports."""


class Merging:
    """Histograms by group, merged many at a time."""

    def __init__(self, stage: str | None) -> None:
        self._stage = stage
        self._done: dict[Group, Histogram] = {}
        self._groups: dict[Group, int] = {}
        self._wires: list[bytes] = []
        self._of: list[int] = []

    def add(self, latency: Any, names: Sequence[object]) -> None:
        """latency: {stage: wire}."""
        group = tuple(map(str, names))
        for stage, wire in latency.items():
            if self._stage in (None, stage):
                self._wires.append(wire)
                self._of.append(self._groups.setdefault((stage, *group), len(self._groups)))
        if len(self._wires) > _MERGE_WIRES:
            self._merge()

    def result(self) -> dict[Group, Histogram]:
        self._merge()
        return self._done

    def _merge(self) -> None:
        for group, part in zip(
            self._groups, merged(self._wires, self._of, len(self._groups), max_count=None), strict=True
        ):
            known = self._done.get(group)
            self._done[group] = known.merge(part) if known is not None else part
        self._groups, self._wires, self._of = {}, [], []


def read_latency(
    database: Database, selection: Selection, by: Sequence[str], stage: str | None, page_rows: int
) -> dict[Group, Histogram]:
    """`Store.latency`. Pages of reports are read one by one, so that no lock is held for long."""
    merging = Merging(stage)
    times = cut(selection.since_s, selection.until_s) if selection.boot is None and "boot" not in by else None
    if times is None:
        _add_reports(database, merging, selection, by, (), page_rows)
        return merging.result()
    scope = Scope.DEVICE if selection.device is not None or "device" in by else Scope.ALL
    with database.reader.connect() as connection:  # one snapshot: the watermark is the roll-ups' own
        watermark = folded_id(connection, scope)
        for span in spans_of(times, scope):
            _add_rollups(connection, merging, selection, by, scope, span)
    _add_reports(database, merging, selection, by, (REPORTS.c.id > watermark,), page_rows)
    if times.reports and watermark:
        for since, until in times.reports:
            _add_edge(database, merging, selection, by, (since, until), watermark, page_rows)
    return merging.result()


def _add_rollups(
    connection: Connection, merging: Merging, selection: Selection, by: Sequence[str], scope: Scope, span: Any
) -> None:
    columns = [_COLUMNS[name] for name in by]
    wanted = {
        "device": selection.device,
        "bundle": selection.bundle,
        "version": selection.version,
        "variant": selection.variant,
        "delegate": selection.delegate,
    }
    met = [_COLUMNS[name] == value for name, value in wanted.items() if value is not None]
    chosen = select(ROLLUPS.c.latency, *columns).join(MODELS, MODELS.c.id == ROLLUPS.c.model_id)
    if scope is Scope.DEVICE:
        chosen = chosen.join(DEVICES, DEVICES.c.id == ROLLUPS.c.device_id)
    for latency, *names in connection.execute(chosen.where(span, *met)):
        merging.add(cbor2.loads(latency), names)


def _add_edge(
    database: Database,
    merging: Merging,
    selection: Selection,
    by: Sequence[str],
    edge: tuple[float, float],
    watermark: int,
    page_rows: int,
) -> None:
    """Folded reports of less than an hour, in the order of their time, which has an index."""
    columns = [group_column(name) for name in by]
    r = REPORTS.c
    after: tuple[float, int] = edge[0], 0
    while True:
        chosen = (
            select(r.id, r.body, r.time_s, *columns)
            .join(DEVICES, DEVICES.c.id == r.device_id)
            .where(*conditions(selection), r.time_s >= after[0], r.time_s < edge[1])
            .where(tuple_(r.time_s, r.id) > after)
            .order_by(r.time_s, r.id)
            .limit(page_rows)
        )
        with database.reader.connect() as connection:
            rows = connection.execute(chosen).all()
        for row in rows:
            if row.id <= watermark:  # not a condition: the database would go by ids, past all there are
                merging.add(latency_wires(row.body), row[3:])
        if len(rows) < page_rows:
            return
        after = rows[-1].time_s, rows[-1].id


def _add_reports(
    database: Database, merging: Merging, selection: Selection, by: Sequence[str], more: Sequence[Any], page_rows: int
) -> None:
    columns = [group_column(name) for name in by]
    after_id = 0
    while True:
        chosen = (
            select(REPORTS.c.id, REPORTS.c.body, *columns)
            .join(DEVICES, DEVICES.c.id == REPORTS.c.device_id)
            .where(*conditions(selection), *more, REPORTS.c.id > after_id)
            .order_by(REPORTS.c.id)
            .limit(page_rows)
        )
        with database.reader.connect() as connection:
            rows = connection.execute(chosen).all()
        for row in rows:
            merging.add(latency_wires(row.body), row[2:])
        if len(rows) < page_rows:
            return
        after_id = rows[-1].id
