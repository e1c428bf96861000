"""Tokens: to enroll devices, for scripts, and of people who are logged in. Kept as hashes, counted atomically."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, or_, select, update

from edgeloop.errors import DataError, RefusedError
from edgeloop.telemetry.collector.security.records import reading, tags_of, tags_text, writing
from edgeloop.telemetry.collector.security.secrets import Secret
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.tables.registry import TOKENS


@dataclass(frozen=True)
class Token:
    """What is known of a token; its secret is not. See `TOKENS` for the fields."""

    id: str
    kind: str
    subject: str
    role: str
    uses: int | None
    used: int
    group: str
    tags: dict[str, str] = field(default_factory=dict)
    created_s: float = 0.0
    created_by: str = ""
    expires_s: float | None = None
    revoked_s: float | None = None

    def status(self, now_s: float) -> str:
        """`valid`, or why it is not."""
        if self.revoked_s is not None:
            return "revoked"
        if self.expires_s is not None and now_s >= self.expires_s:
            return "expired"
        return "used up" if self.uses is not None and self.used >= self.uses else "valid"


@dataclass(frozen=True)
class Tokens:
    """Those of a store."""

    database: Database
    clock: Callable[[], float] = time.time

    def create(
        self, kind: str, by: str, *, subject: str = "", role: str = "", uses: int | None = None, group: str = "",
        tags: Mapping[str, str] | None = None, lasts_s: float | None = None, connection: Connection | None = None,
    ) -> Secret:  # fmt: skip
        """A new one; its text is nowhere but in the answer."""
        secret, now = Secret.make(kind), self.clock()
        row = {
            "id": secret.id, "kind": kind, "hash": secret.hash, "subject": subject, "role": role, "uses": uses,
            "used": 0, "group_name": group, "tags": tags_text(tags or {}), "created_s": now, "created_by": by,
            "expires_s": None if lasts_s is None else now + lasts_s,
        }  # fmt: skip
        if connection is not None:
            connection.execute(TOKENS.insert(), row)
            return secret
        with writing(self.database) as own:
            own.execute(TOKENS.insert(), row)
        return secret

    def list(self, kind: str | None = None) -> list[Token]:
        """By age."""
        statement = select(TOKENS).order_by(TOKENS.c.created_s, TOKENS.c.id)
        if kind is not None:
            statement = statement.where(TOKENS.c.kind == kind)
        with reading(self.database) as connection:
            return [_token(row) for row in connection.execute(statement)]

    def find(self, secret: Secret) -> Token | None:
        """The valid token that `secret` is; None for any other."""
        with reading(self.database) as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.id == secret.id)).one_or_none()
        if row is None or not secret.matches(row.hash) or row.kind != secret.kind:
            return None
        token = _token(row)
        return token if token.status(self.clock()) == "valid" else None

    def look(self, connection: Connection, secret: Secret) -> Token:
        """The token that `secret` is, valid or not. RefusedError for one that never was."""
        row = connection.execute(select(TOKENS).where(TOKENS.c.id == secret.id)).one_or_none()
        if row is None or not secret.matches(row.hash) or row.kind != secret.kind:
            raise RefusedError("this token is not known here", hint="edgeloop collect token create makes one")
        return _token(row)

    def use(self, connection: Connection, token: Token) -> None:
        """Count one use within a transaction. RefusedError where it is used up, expired or revoked; of any number of
        callers at once no more than its uses succeed."""
        now, t = self.clock(), TOKENS.c
        counted = connection.execute(
            update(TOKENS)
            .where(t.id == token.id, t.revoked_s.is_(None))
            .where(or_(t.uses.is_(None), t.used < t.uses), or_(t.expires_s.is_(None), t.expires_s > now))
            .values(used=t.used + 1)
        )
        if counted.rowcount != 1:
            status = token.status(now)
            raise RefusedError(
                f"the token {token.id} is {'used up' if status == 'valid' else status}",
                hint="ask the operator for a new one: edgeloop collect token create",
            )

    def revoke(self, connection: Connection, token_id: str) -> None:
        """DataError where there is none."""
        changed = connection.execute(
            update(TOKENS).where(TOKENS.c.id == token_id, TOKENS.c.revoked_s.is_(None)).values(revoked_s=self.clock())
        )
        if changed.rowcount != 1:
            raise DataError(f"there is no token {token_id!r} to revoke", hint="edgeloop collect token list")

    def revoke_of(self, connection: Connection, kind: str, subject: str) -> None:
        """All of one subject: the sessions of a user."""
        t = TOKENS.c
        connection.execute(
            update(TOKENS)
            .where(t.kind == kind, t.subject == subject, t.revoked_s.is_(None))
            .values(revoked_s=self.clock())
        )

    def forget_expired(self, kind: str) -> None:
        """Sessions come and go."""
        with writing(self.database) as connection:
            connection.execute(TOKENS.delete().where(TOKENS.c.kind == kind, TOKENS.c.expires_s < self.clock()))


def _token(row: object) -> Token:
    values = dict(row._mapping)  # type: ignore[attr-defined]
    values.pop("hash")
    return Token(group=values.pop("group_name"), tags=tags_of(values.pop("tags")), **values)
