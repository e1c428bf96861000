"""The statements of one commit: devices, reports, their latency and events, and the quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rows import ReportRows
from edgeloop.telemetry.store.schema import DEVICES, EVENTS, LATENCY, QUARANTINE, REPORTS

MAX_QUARANTINED = 1000
MAX_QUARANTINED_BYTES = 4096
_PAGE_ROWS = 500


@dataclass(frozen=True)
class Quarantined:
    """A report that was refused: what could be read of its key ("" and 0 else), why, and the start of its bytes."""

    device: str
    boot: str
    seq: int
    reason: str
    body: bytes
    received_s: float = 0.0


@dataclass(frozen=True)
class Inserted:
    """new: positions in the batch of the reports that were not there before; the rest were duplicates."""

    new: tuple[int, ...]
    duplicates: int

    @property
    def stored(self) -> int:
        return len(self.new)


@dataclass
class Job:
    """One caller's batch on its way into a transaction, and what became of it."""

    rows: list[ReportRows]
    refused: Sequence[Quarantined]
    received_s: float
    done: bool = False
    result: Inserted = Inserted((), 0)
    error: Exception | None = None


class Statements:
    """The statements of a commit, made once: putting one together costs more than running it."""

    def __init__(self, database: Database) -> None:
        key = (REPORTS.c.id, REPORTS.c.device_id, REPORTS.c.boot, REPORTS.c.seq)
        self.add_devices = database.insert_or_ignore(DEVICES).on_conflict_do_nothing()
        self.add_reports = database.insert_or_ignore(REPORTS).on_conflict_do_nothing().returning(*key)
        self.add_latency = LATENCY.insert()
        self.add_events = EVENTS.insert()
        self.add_totals = (
            DEVICES.update()
            .where(DEVICES.c.id == bindparam("of_device"))
            .values(
                last_received_s=bindparam("seen_s"),
                last_report_id=bindparam("last_id"),
                reports=DEVICES.c.reports + bindparam("more"),
                inferences=DEVICES.c.inferences + bindparam("done"),
            )
        )


def device_ids(
    connection: Connection, statements: Statements, jobs: Sequence[Job], known: dict[str, int]
) -> dict[str, int]:
    """Id of every device in the jobs; those not seen before are added. They count as known only after the commit."""
    first_seen: dict[str, float] = {}
    for job in jobs:
        for rows in job.rows:
            first_seen.setdefault(rows.key[0], job.received_s)
    unknown = {name: seen for name, seen in first_seen.items() if name not in known}
    found = {name: known[name] for name in first_seen if name in known}
    if unknown:
        new = [
            {"device": name, "first_received_s": seen, "last_received_s": seen, "reports": 0, "inferences": 0.0}
            for name, seen in unknown.items()
        ]
        connection.execute(statements.add_devices, new)
        names = list(unknown)
        for start in range(0, len(names), _PAGE_ROWS):
            some = DEVICES.c.device.in_(names[start : start + _PAGE_ROWS])
            for row in connection.execute(select(DEVICES.c.device, DEVICES.c.id).where(some)):
                found[row.device] = row.id
    return found


def write(connection: Connection, statements: Statements, job: Job, ids_of_devices: dict[str, int]) -> Inserted:
    """Insert one job's new reports with their latency and events, and its refused ones."""
    inserted = Inserted((), 0)
    if job.rows:
        rows = [{"device_id": ids_of_devices[each.key[0]], **each.report} for each in job.rows]
        ids = {(row[1], row[2], row[3]): row[0] for row in connection.execute(statements.add_reports, rows)}
        new: dict[int, int] = {}  # position in the batch -> id; what is left out is a duplicate
        for position, row in enumerate(rows):
            report_id = ids.pop((row["device_id"], row["boot"], row["seq"]), None)
            if report_id is not None:
                new[position] = report_id
        if new:
            _write_details(connection, statements, job, new)
            _write_totals(connection, statements, job, rows, new)
        inserted = Inserted(tuple(new), len(rows) - len(new))
    if job.refused:
        _quarantine(connection, job)
    return inserted


def _write_details(connection: Connection, statements: Statements, job: Job, new: Mapping[int, int]) -> None:
    latency = [
        {"report_id": report_id, "stage": stage, "histogram": wire}
        for position, report_id in new.items()
        for stage, wire in job.rows[position].latency
    ]
    events = [
        {"report_id": report_id, "position": i, "kind": event.kind, "time_s": event.time_s, "detail": event.detail}
        for position, report_id in new.items()
        for i, event in enumerate(job.rows[position].events)
    ]
    if latency:
        connection.execute(statements.add_latency, latency)
    if events:
        connection.execute(statements.add_events, events)


def _write_totals(
    connection: Connection, statements: Statements, job: Job, rows: list[dict[str, Any]], new: Mapping[int, int]
) -> None:
    totals: dict[int, dict[str, Any]] = {}
    for position, report_id in new.items():
        row = rows[position]
        start = {"of_device": row["device_id"], "seen_s": job.received_s, "last_id": 0, "more": 0, "done": 0.0}
        total = totals.setdefault(row["device_id"], start)
        total["last_id"] = max(total["last_id"], report_id)
        total["more"] += 1
        total["done"] += row["inferences"]
    connection.execute(statements.add_totals, list(totals.values()))


def _quarantine(connection: Connection, job: Job) -> None:
    connection.execute(
        QUARANTINE.insert(),
        [
            {
                "received_s": job.received_s,
                "device": item.device.replace("\0", "\ufffd"),
                "boot": item.boot.replace("\0", "\ufffd"),
                "seq": min(max(item.seq, 0), 2**63 - 1),
                "reason": item.reason.replace("\0", "\ufffd"),
                "body": item.body[:MAX_QUARANTINED_BYTES],
            }
            for item in job.refused
        ],
    )
    newest = select(QUARANTINE.c.id).order_by(QUARANTINE.c.id.desc()).offset(MAX_QUARANTINED).limit(1)
    connection.execute(delete(QUARANTINE).where(QUARANTINE.c.id <= newest.scalar_subquery()))
