"""From a request to who asks: a client certificate, a bearer, or a session's cookie. Answers are kept for 2 s."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from edgeloop.telemetry.collector.security.access import ANONYMOUS, DEVICE, Principal
from edgeloop.telemetry.collector.security.certificates import sha256_of
from edgeloop.telemetry.collector.security.registry import ENROLLED, Registry
from edgeloop.telemetry.collector.security.secrets import API, MAX_TEXT_CHARS, SESSION, Secret
from edgeloop.telemetry.collector.security.secrets import DEVICE as DEVICE_SECRET
from edgeloop.telemetry.collector.security.tokens import Tokens
from edgeloop.telemetry.collector.security.users import Users

COOKIE = "__Host-edgeloop"
KEPT_S = 2.0
"""How long a revocation takes at most."""
_MAX_KEPT = 20_000


@dataclass
class Identities:
    """Safe between threads."""

    registry: Registry
    tokens: Tokens
    users: Users
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _kept: OrderedDict[str, tuple[float, Principal]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def shown(self, headers: Mapping[str, str], certificate_der: bytes | None) -> str:
        """Which credential a request shows, as a key for `who`: "" for none. An explicit one goes first."""
        authorization = headers.get("authorization", "")
        if authorization:
            scheme, _, text = authorization.partition(" ")
            return f"bearer {_short(text.strip())}" if scheme.lower() == "bearer" else "bearer ?"
        if certificate_der:
            return f"certificate {sha256_of(certificate_der)}"
        session = cookie_of(headers.get("cookie", ""))
        return f"cookie {_short(session)}" if session else ""

    def remembered(self, shown: str) -> Principal | None:
        """Without asking the store; None when it has to be asked."""
        if not shown:
            return ANONYMOUS
        with self._lock:
            kept = self._kept.get(shown)
        return kept[1] if kept is not None and self.monotonic() < kept[0] else None

    def who(self, shown: str) -> Principal:
        """Asks the store. Raises StoreUnavailableError."""
        found = self._look_up(shown)
        with self._lock:
            self._kept[shown] = (self.monotonic() + KEPT_S, found)
            self._kept.move_to_end(shown)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return found

    def forget(self, shown: str) -> None:
        """After a logout."""
        with self._lock:
            self._kept.pop(shown, None)

    def _look_up(self, shown: str) -> Principal:
        way, _, text = shown.partition(" ")
        if way == "certificate":
            return self._device(text, "this certificate is not known here")
        secret = Secret.parse(text)
        if secret is None:
            return Principal("anonymous", trouble="this is no token of a collector")
        if way == "bearer" and secret.kind == DEVICE_SECRET:
            return self._device(secret.hash, "this device's token is not known here")
        token = self.tokens.find(secret)
        if token is None:
            return Principal("anonymous", trouble="the token or session is not valid (any more)")
        if way == "bearer" and secret.kind == API:
            return Principal("api", token.subject, token.role)
        if way == "cookie" and secret.kind == SESSION and (role := self.users.role_of(token.subject)):
            return Principal("user", token.subject, role, session_id=token.id)
        return Principal("anonymous", trouble="a token of this kind opens nothing here")

    def _device(self, credential: str, unknown: str) -> Principal:
        found = self.registry.owner_of(credential)
        if found is None:
            return Principal("anonymous", trouble=unknown)
        if found.status != ENROLLED:
            return Principal("anonymous", trouble=f"the device {found.device!r} was revoked")
        ends_s = found.renewal_expires_s if found.renewal == credential else found.expires_s
        if ends_s is not None and self.clock() >= ends_s:
            return Principal("anonymous", trouble=f"the credential of {found.device!r} expired")
        return Principal(DEVICE, found.device, DEVICE)


def cookie_of(header: str) -> str:
    """The session in a Cookie header; "" without one."""
    try:
        found = SimpleCookie(header[:4096]).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _short(text: str) -> str:
    """What is too long to be a token is not worth keeping."""
    return text if len(text) <= MAX_TEXT_CHARS else "?"
