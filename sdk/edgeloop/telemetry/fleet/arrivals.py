"""Which devices have something new in a store that others write to as well."""

from __future__ import annotations

from sqlalchemy import select

from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.schema import DEVICES


def devices_since(database: Database, report_id: int) -> list[tuple[str, float]]:
    """(device, when its last report came in) of those with a report after `report_id`."""
    chosen = select(DEVICES.c.device, DEVICES.c.last_received_s).where(DEVICES.c.last_report_id > report_id)
    with database.reader.connect() as connection:
        return [(row.device, row.last_received_s) for row in connection.execute(chosen)]
