"""Who did what, when and from where. Entries are added and read; nothing here changes or removes one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from edgeloop.telemetry.collector.security.records import reading, writing
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.registry import AUDIT

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class AuditEntry:
    """action: `token.create`, `device.enroll`, `device.revoke`, `login.failed`, ... origin: an address."""

    time_s: float
    who: str
    action: str
    subject: str = ""
    origin: str = COMMAND_LINE
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Audit:
    """The log in the store. on_entry: told of each entry after it is in, for the log of this process."""

    database: Database
    on_entry: Callable[[AuditEntry], None] = lambda _entry: None
    clock: Callable[[], float] = time.time

    def add(self, who: str, action: str, subject: str = "", *, origin: str = COMMAND_LINE, **detail: Any) -> None:
        """In a transaction of its own. Never give it a secret."""
        with writing(self.database) as connection:
            entry = self.add_within(connection, who, action, subject, origin=origin, **detail)
        self.on_entry(entry)

    def add_within(
        self, connection: Connection, who: str, action: str, subject: str = "", *, origin: str, **detail: Any
    ) -> AuditEntry:
        """In the transaction that does the deed, so that there is neither without the other. Call `on_entry` after."""
        entry = AuditEntry(self.clock(), who, action, subject, origin, detail)
        connection.execute(AUDIT.insert(), {**entry.__dict__, "detail": json.dumps(detail, sort_keys=True)})
        return entry

    def entries(self, *, limit: int = 100, since_s: float | None = None, action: str = "") -> list[AuditEntry]:
        """The newest `limit`, oldest of them first. action: the beginning of its name."""
        a = AUDIT.c
        statement = select(a.time_s, a.who, a.action, a.subject, a.origin, a.detail).order_by(a.id.desc()).limit(limit)
        if since_s is not None:
            statement = statement.where(a.time_s >= since_s)
        if action:
            statement = statement.where(a.action.startswith(action, autoescape=True))
        with reading(self.database) as connection:
            rows = connection.execute(statement).all()
        return [AuditEntry(**{**row._mapping, "detail": json.loads(row.detail)}) for row in reversed(rows)]
