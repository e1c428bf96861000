"""People who may log in, and that one did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.records import check_name, reading, writing
from edgeloop.telemetry.collector.security.secrets import SESSION, Secret, hash_password, is_password
from edgeloop.telemetry.collector.security.tokens import Tokens
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.registry import USERS

VIEWER, OPERATOR = "viewer", "operator"
ROLES = (VIEWER, OPERATOR)
SESSION_S = 12 * 3600.0


@dataclass(frozen=True)
class User:
    """role: viewer or operator."""

    name: str
    role: str
    created_s: float
    created_by: str


@dataclass(frozen=True)
class Users:
    """Those of a store. Every change is in the audit log."""

    database: Database
    audit: Audit
    clock: Callable[[], float] = time.time

    def add(self, name: str, password: str, role: str, by: str) -> None:
        """UsageError for a name that is taken or a password that is too short."""
        if role not in ROLES:
            raise UsageError(f"there is no role {role!r}", hint=f"known: {', '.join(ROLES)}")
        check_name(name, "user")
        if any(user.name == name for user in self.list()):
            raise UsageError(f"there is a user {name!r} already", hint=f"edgeloop collect user password {name}")
        row = {"name": name, "role": role, "password": hash_password(password)}
        with writing(self.database) as connection:
            connection.execute(USERS.insert(), {**row, "created_s": self.clock(), "created_by": by})
            entry = self.audit.add_within(connection, by, "user.add", name, origin="command line", role=role)
        self.audit.on_entry(entry)

    def set_password(self, name: str, password: str, by: str) -> None:
        """Ends the user's sessions. DataError where there is no such user."""
        hashed = hash_password(password)
        self._change(name, by, "user.password", USERS.update().values(password=hashed))

    def remove(self, name: str, by: str) -> None:
        """Ends the user's sessions. DataError where there is no such user."""
        self._change(name, by, "user.remove", USERS.delete())

    def list(self) -> list[User]:
        """By name."""
        u = USERS.c
        with reading(self.database) as connection:
            rows = connection.execute(select(u.name, u.role, u.created_s, u.created_by).order_by(u.name)).all()
        return [User(*row) for row in rows]

    def role_of(self, name: str) -> str | None:
        with reading(self.database) as connection:
            role: str | None = connection.execute(select(USERS.c.role).where(USERS.c.name == name)).scalar_one_or_none()
        return role

    def log_in(self, name: str, password: str, origin: str) -> Secret | None:
        """A session's secret, or None for a wrong name or password; both are in the audit log."""
        with reading(self.database) as connection:
            stored = connection.execute(select(USERS.c.password).where(USERS.c.name == name)).scalar_one_or_none()
        if not is_password(password, stored):
            self.audit.add(name[:120] if stored is not None else "unknown", "login.failed", origin=origin)
            return None
        tokens = Tokens(self.database, self.clock)
        tokens.forget_expired(SESSION)
        with writing(self.database) as connection:
            secret = tokens.create(SESSION, name, subject=name, lasts_s=SESSION_S, connection=connection)
            entry = self.audit.add_within(connection, name, "login", name, origin=origin)
        self.audit.on_entry(entry)
        return secret

    def log_out(self, session_id: str, who: str, origin: str) -> None:
        with writing(self.database) as connection:
            Tokens(self.database, self.clock).revoke(connection, session_id)
            entry = self.audit.add_within(connection, who, "logout", who, origin=origin)
        self.audit.on_entry(entry)

    def _change(self, name: str, by: str, action: str, statement: object) -> None:
        with writing(self.database) as connection:
            changed = connection.execute(statement.where(USERS.c.name == name))  # type: ignore[attr-defined]
            if changed.rowcount != 1:
                raise DataError(f"there is no user {name!r}", hint="edgeloop collect user list")
            Tokens(self.database, self.clock).revoke_of(connection, SESSION, name)
            entry = self.audit.add_within(connection, by, action, name, origin="command line")
        self.audit.on_entry(entry)
