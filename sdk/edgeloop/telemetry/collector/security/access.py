"""Who may call what: the one table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PUBLIC, DEVICE, VIEWER, OPERATOR = "public", "device", "viewer", "operator"
_READS = frozenset({"GET", "HEAD"})
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Rule:
    """path: exact, or with a `/` at its end everything below. role: who may; an operator may what a viewer may."""

    methods: frozenset[str]
    path: str
    role: str

    def covers(self, method: str, path: str) -> bool:
        if method not in self.methods:
            return False
        return path.startswith(self.path) if self.path.endswith("/") and self.path != "/" else path == self.path


RULES: Sequence[Rule] = (
    # The first one that covers a request counts.
    Rule(_READS, "/healthz", PUBLIC),
    Rule(_READS, "/readyz", PUBLIC),
    Rule(_READS | _WRITES, "/login", PUBLIC),
    Rule(_READS, "/login.css", PUBLIC),
    Rule(_READS, "/icon.svg", PUBLIC),
    Rule(_WRITES, "/logout", VIEWER),
    Rule(_WRITES, "/v1/enroll", PUBLIC),  # for a token, which the endpoint asks for
    Rule(_WRITES, "/v1/renew", DEVICE),
    Rule(_WRITES, "/v1/reports", DEVICE),
    Rule(frozenset({"POST"}), "/v1/samples", DEVICE),
    Rule(_READS | _WRITES, "/v1/samples", OPERATOR),  # what is in them are pictures
    Rule(_READS | _WRITES, "/v1/samples/", OPERATOR),
    Rule(_READS, "/v1/", VIEWER),  # what is more than looking has a line of its own above
    Rule(_WRITES, "/v1/", OPERATOR),
    Rule(_READS, "/metrics", VIEWER),
    Rule(_READS, "/", VIEWER),
    Rule(_READS, "/page.css", VIEWER),
    Rule(_READS, "/views.css", VIEWER),
    Rule(_READS, "/js/", VIEWER),
    Rule(_READS, "/vendor/", VIEWER),
)


@dataclass(frozen=True)
class Principal:
    """Who asks. kind: "anonymous", "local" (no login is asked for here), "device", "user" or "api"."""

    kind: str
    name: str = ""
    role: str = PUBLIC
    session_id: str = ""
    trouble: str = ""
    """Why a credential that was shown does not count."""

    @property
    def device(self) -> str | None:
        return self.name if self.kind == DEVICE else None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


ANONYMOUS = Principal("anonymous")
LOCAL = Principal("local", role=OPERATOR)


def find_rule(method: str, path: str) -> Rule | None:
    return next((rule for rule in RULES if rule.covers(method, path)), None)


def role_for(method: str, path: str) -> str:
    """What a caller has to be; operator for what nobody thought of."""
    rule = find_rule(method, path)
    return OPERATOR if rule is None else rule.role


def may(role: str, needed: str) -> bool:
    """Whether a caller with `role` may do what is for `needed`."""
    return needed == PUBLIC or role == needed or (role == OPERATOR and needed == VIEWER)
