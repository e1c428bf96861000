"""The statements of one commit: devices, reports, their events, and the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.rows import ReportRow
from edgeloop.telemetry.store.schema import DEVICES, QUARANTINE

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

    rows: list[ReportRow]
    refused: Sequence[Quarantined]
    received_s: float
    done: bool = False
    result: Inserted = Inserted((), 0)
    error: Exception | None = None


class Statements:
    """The statements of a commit, made once: putting one together costs more than running it."""

    def __init__(self, database: Database) -> None:
        self.add_reports = database.add_reports
        self.add_devices = database.insert_or_ignore(DEVICES).on_conflict_do_nothing()
        self.add_events = database.add_events
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
            first_seen.setdefault(rows.device, job.received_s)
    unknown = {name: seen for name, seen in first_seen.items() if name not in known}
    found = {name: known[name] for name in first_seen if name in known}
    if unknown:
        new = [  # in order, so that two collectors never wait for each other in a circle
            {"device": name, "first_received_s": seen, "last_received_s": seen, "reports": 0, "inferences": 0.0}
            for name, seen in sorted(unknown.items())
        ]
        connection.execute(statements.add_devices, new)
        names = list(unknown)
        for start in range(0, len(names), _PAGE_ROWS):
            some = DEVICES.c.device.in_(names[start : start + _PAGE_ROWS])
            for row in connection.execute(select(DEVICES.c.device, DEVICES.c.id).where(some)):
                found[row.device] = row.id
    return found


def write(
    connection: Connection, statements: Statements, jobs: Sequence[Job], ids_of_devices: dict[str, int]
) -> list[Inserted]:
    """Insert the jobs' new reports with their events, and what they refused; what was inserted of each job."""
    rows = [row for job in jobs for row in job.rows]
    ids: list[int | None] = []
    if rows:
        ids = statements.add_reports(connection, [(ids_of_devices[row.device], *row.values) for row in rows])
        _write_events(connection, statements, rows, ids)
    results, start = [], 0
    totals: dict[int, dict[str, Any]] = {}
    for job in jobs:
        mine = ids[start : start + len(job.rows)]
        start += len(job.rows)
        new = tuple(position for position, report_id in enumerate(mine) if report_id is not None)
        for position in new:
            _add_total(totals, ids_of_devices[job.rows[position].device], job, position, mine[position])
        results.append(Inserted(new, len(mine) - len(new)))
        if job.refused:
            _quarantine(connection, job)
    if totals:
        # In order, so that two collectors on one database never wait for each other in a circle.
        connection.execute(statements.add_totals, [totals[device_id] for device_id in sorted(totals)])
    return results


def _write_events(
    connection: Connection, statements: Statements, rows: Sequence[ReportRow], ids: Sequence[int | None]
) -> None:
    events = [
        (report_id, position, event.kind, event.time_s, event.detail)
        for row, report_id in zip(rows, ids, strict=True)
        if report_id is not None
        for position, event in enumerate(row.events)
    ]
    if events:
        statements.add_events(connection, events)


def _add_total(
    totals: dict[int, dict[str, Any]], device_id: int, job: Job, position: int, report_id: int | None
) -> None:
    start = {"of_device": device_id, "seen_s": 0.0, "last_id": 0, "more": 0, "done": 0.0}
    total = totals.setdefault(device_id, start)
    total["seen_s"] = max(total["seen_s"], job.received_s)
    total["last_id"] = max(total["last_id"], report_id)
    total["more"] += 1
    total["done"] += job.rows[position].inferences


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
