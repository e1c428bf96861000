"""How an older store becomes a current one. Each step runs in the transaction that records the new version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cbor2
from sqlalchemy import Connection, MetaData, text

from edgeloop.errors import DataError
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.wire.latency import WireLatency
from edgeloop.telemetry.wire.report_codec import encode_report

Migration = Callable[[Connection, MetaData], None]
"""(connection in a write transaction, the current tables)."""

_PAGE_ROWS = 500


def _from_1_to_2(connection: Connection, metadata: MetaData) -> None:
    """A report becomes one row that holds it as it was sent, instead of a row per stage and columns for every field.

    Version 1 was on SQLite only. A report that version 1 took and the wire does not (made by a program, not by an
    agent) goes to the quarantine.
    """
    connection.execute(text("DROP INDEX IF EXISTS reports_by_device"))
    connection.execute(text("ALTER TABLE reports RENAME TO reports_1"))
    metadata.create_all(connection, checkfirst=True)
    after_id = 0
    while page := _page_of_1(connection, after_id):
        after_id = page[-1]["id"]
        _carry_over(connection, metadata, page)
    # The events stay as they are, but for a foreign key that would now point to a table that is gone.
    connection.execute(text("ALTER TABLE events RENAME TO events_1"))
    metadata.create_all(connection, checkfirst=True)
    connection.execute(text("INSERT INTO events SELECT report_id, position, kind, time_s, detail FROM events_1"))
    for table in ("events_1", "latency", "reports_1"):
        connection.execute(text(f"DROP TABLE {table}"))


def _page_of_1(connection: Connection, after_id: int) -> Sequence[Mapping[str, Any]]:
    found = connection.execute(
        text(
            "SELECT r.*, d.device FROM reports_1 r JOIN devices d ON d.id = r.device_id"
            " WHERE r.id > :after ORDER BY r.id LIMIT :rows"
        ),
        {"after": after_id, "rows": _PAGE_ROWS},
    )
    return [dict(row) for row in found.mappings()]


def _carry_over(connection: Connection, metadata: MetaData, page: Sequence[Mapping[str, Any]]) -> None:
    span = {"first": page[0]["id"], "last": page[-1]["id"]}
    between = "WHERE report_id BETWEEN :first AND :last"
    latency: dict[int, dict[str, bytes]] = {}
    for report_id, stage, wire in connection.execute(
        text(f"SELECT report_id, stage, histogram FROM latency {between}"), span
    ):
        latency.setdefault(report_id, {})[stage] = wire
    events: dict[int, list[Event]] = {}
    for report_id, *event in connection.execute(
        text(f"SELECT report_id, kind, time_s, detail FROM events {between} ORDER BY report_id, position"), span
    ):
        events.setdefault(report_id, []).append(Event(*event))
    rows, refused = [], []
    for row in page:
        try:
            body = encode_report(_report_of_1(row, latency.get(row["id"], {}), events.get(row["id"], ())))
        except DataError as error:
            refused.append({**row, "reason": f"not carried over: {error.message}", "body": b""})
        else:
            rows.append({**row, "body": body})
    for name, values in (("reports", rows), ("quarantine", refused)):
        if values:
            table = metadata.tables[name]
            kept = [column.name for column in table.c if column.name in values[0]]
            if name == "quarantine":
                kept.remove("id")
            connection.execute(table.insert(), [{column: value[column] for column in kept} for value in values])


def _report_of_1(row: Mapping[str, Any], latency: Mapping[str, bytes], events: Sequence[Event]) -> Report:
    named = ("device", "boot", "seq", "time_s", "uptime_s", "period_s", "bundle", "version", "variant", "runtime")
    also = ("delegate_asked", "delegate_ran", "delegated_ops", "total_ops")
    return Report(
        **{name: row[name] for name in (*named, *also)},
        unsigned=bool(row["unsigned"]),
        counters=json.loads(row["counters"]),
        latency=WireLatency(latency),
        gauges=json.loads(row["gauges"]),
        events=tuple(events),
        unknown=cbor2.loads(row["unknown"]) if row["unknown"] else {},
    )


MIGRATIONS: Mapping[int, Migration] = {
    1: _from_1_to_2,
}
"""From version: what turns it into version + 1."""
