"""The alerts in the store: begun once, ended once, told once, whoever restarts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select

from edgeloop.telemetry.alerts.evaluate import Change, Subject
from edgeloop.telemetry.fleet.arrivals import available
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.alerts import ALERTS

KEPT = 10_000
"""Alerts; the oldest that are over leave first."""


@dataclass(frozen=True)
class Alert:
    """resolved_s: None while it fires. told_*: whether the webhooks know."""

    id: int
    rule: str
    device: str
    bundle: str
    severity: str
    text: str
    value: float | None
    fired_s: float
    resolved_s: float | None
    told_fired: bool
    told_resolved: bool

    @property
    def subject(self) -> Subject:
        return Subject(self.rule, self.device, self.bundle)

    def to_dict(self) -> dict[str, Any]:
        """JSON keys are the fields' names."""
        return asdict(self)


_COLUMNS = tuple(ALERTS.c[name] for name in Alert.__dataclass_fields__)


class AlertBook:
    """Over the store's database. Every method may raise StoreUnavailableError, and has then changed nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self) -> list[Alert]:
        """What fires now, the latest first."""
        return self._select(ALERTS.c.resolved_s.is_(None))

    def recent(self, limit: int = 200) -> list[Alert]:
        """What fires, then what did; the latest first."""
        return [*self.open(), *self._select(ALERTS.c.resolved_s.is_not(None), limit=limit)][:limit]

    def untold(self, since_s: float) -> list[Alert]:
        """What the webhooks do not know yet, the oldest first; nothing that began or ended before `since_s`."""
        began = and_(ALERTS.c.told_fired.is_(False), ALERTS.c.fired_s >= since_s)
        ended = and_(ALERTS.c.told_resolved.is_(False), ALERTS.c.resolved_s >= since_s)
        return self._select(or_(began, ended), limit=1000)[::-1]

    def record(self, changes: list[Change], now_s: float) -> list[Change]:
        """Those of the changes that were news to the store; another collector may have been first."""
        news = []
        with self._writing() as connection:
            for change in changes:
                if self._begin(connection, change, now_s) if change.fires else self._end(connection, change, now_s):
                    news.append(change)
            if news:
                over = select(ALERTS.c.id).where(ALERTS.c.resolved_s.is_not(None)).order_by(ALERTS.c.id.desc())
                connection.execute(delete(ALERTS).where(ALERTS.c.id.in_(over.offset(KEPT).limit(1000))))
        return news

    def told(self, alert: Alert, *, fired: bool) -> None:
        """The webhooks know of its beginning, or of its end."""
        column = "told_fired" if fired else "told_resolved"
        with self._writing() as connection:
            connection.execute(ALERTS.update().where(ALERTS.c.id == alert.id).values({column: True}))

    def _begin(self, connection: Connection, change: Change, now_s: float) -> bool:
        values = {
            "open_key": _key(change.subject), **asdict(change.subject), "severity": change.severity,
            "text": change.text, "value": change.value, "fired_s": now_s, "told_fired": False, "told_resolved": False,
        }  # fmt: skip
        insert = self._database.insert_or_ignore(ALERTS).on_conflict_do_nothing().returning(ALERTS.c.id)
        return connection.execute(insert, [values]).first() is not None

    def _end(self, connection: Connection, change: Change, now_s: float) -> bool:
        mine = ALERTS.c.open_key == _key(change.subject)
        ended = ALERTS.update().where(mine).values(open_key=None, resolved_s=now_s)
        return connection.execute(ended).rowcount == 1

    def _select(self, which: Any, *, limit: int = KEPT) -> list[Alert]:
        chosen = select(*_COLUMNS).where(which).order_by(ALERTS.c.fired_s.desc(), ALERTS.c.id.desc()).limit(limit)
        with available(), self._database.reader.connect() as connection:
            return [Alert(**row) for row in connection.execute(chosen).mappings()]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with available(), self._database.writer.begin() as connection:
            yield connection


def _key(subject: Subject) -> str:
    return hashlib.sha256(json.dumps([subject.rule, subject.device, subject.bundle]).encode()).hexdigest()
