"""All of it over one store, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.errors import RefusedError
from edgeloop.telemetry.collector.limits import RequestRates
from edgeloop.telemetry.collector.security.audit import COMMAND_LINE, Audit, AuditEntry
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.security.enrollment import Enrollment
from edgeloop.telemetry.collector.security.identity import Identities
from edgeloop.telemetry.collector.security.rate import Buckets
from edgeloop.telemetry.collector.security.records import writing
from edgeloop.telemetry.collector.security.registry import Registry
from edgeloop.telemetry.collector.security.secrets import API, ENROLL, Secret
from edgeloop.telemetry.collector.security.tokens import Tokens
from edgeloop.telemetry.collector.security.users import Users
from edgeloop.telemetry.store.dialects import Database


@dataclass(frozen=True)
class Security:
    """enforced: whether callers have to say who they are."""

    registry: Registry
    tokens: Tokens
    users: Users
    audit: Audit
    enrollment: Enrollment
    identities: Identities
    enforced: bool = False
    rates: RequestRates = field(default_factory=RequestRates)
    tries: Buckets = field(default_factory=lambda: Buckets(RequestRates.tries))

    @classmethod
    def over(
        cls,
        database: Database,
        tls: Path | None = None,
        *,
        enforced: bool = False,
        rates: RequestRates | None = None,
        on_entry: Callable[[AuditEntry], None] = lambda _entry: None,
    ) -> Security:
        """tls: the folder of the CA. Raises ConfigError, RefusedError for one that is of no use."""
        authority = None if tls is None else Authority.load(tls)
        audit, tokens, rates = Audit(database, on_entry), Tokens(database), rates or RequestRates()
        registry, users = Registry(database, audit), Users(database, audit)
        enrollment = Enrollment(database, registry, tokens, audit, authority)
        identities = Identities(registry, tokens, users)
        tries = Buckets(rates.tries)
        return cls(registry, tokens, users, audit, enrollment, identities, enforced, rates, tries)

    def create_token(self, kind: str, by: str, **what: Any) -> Secret:
        """See `Tokens.create`; in the audit log."""
        with writing(self.audit.database) as connection:
            secret = self.tokens.create(kind, by, connection=connection, **what)
            said = {"for" if key == "subject" else key: value for key, value in what.items() if value}
            entry = self.audit.add_within(
                connection, by, "token.create", secret.id, origin=COMMAND_LINE, kind=kind, **said
            )
        self.audit.on_entry(entry)
        return secret

    def revoke_token(self, token_id: str, by: str) -> None:
        """DataError where there is none that is not revoked; in the audit log."""
        with writing(self.audit.database) as connection:
            self.tokens.revoke(connection, token_id)
            entry = self.audit.add_within(connection, by, "token.revoke", token_id, origin=COMMAND_LINE)
        self.audit.on_entry(entry)

    def check_anybody_may_enter(self) -> None:
        """RefusedError where nobody could: no user, no token and no device."""
        usable = any(token.kind in (ENROLL, API) for token in self.tokens.list())
        if not usable and not self.users.list() and not self.registry.list():
            raise RefusedError(
                "nobody could use this collector: it has no user, no token and no device yet",
                hint="edgeloop collect user add NAME, and edgeloop collect token create for the devices",
            )
