"""A device gets its credential: for a token at first, for the credential it has later on.

The secret half never comes here: the device makes its key and sends a signing request, or makes its bearer secret and
sends the SHA-256 of it. So an answer that is lost may be asked for again.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import DataError, RefusedError, UsageError
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.authority import DEVICE_DAYS, Authority
from edgeloop.telemetry.collector.security.records import check_name, tags_text, writing
from edgeloop.telemetry.collector.security.registry import (
    BEARER,
    CERTIFICATE,
    ENROLLED,
    KNOWN,
    RegisteredDevice,
    Registry,
)
from edgeloop.telemetry.collector.security.secrets import ENROLL, Secret
from edgeloop.telemetry.collector.security.tokens import Token, Tokens
from edgeloop.telemetry.store.dialects import Database

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY_S = 86_400.0


class NameTakenError(RefusedError):
    """There is a device of that name."""


@dataclass(frozen=True)
class Wanted:
    """What a device asks for: a certificate for the key of `csr`, or that its bearer secret of this SHA-256 count."""

    csr: str = ""
    bearer_sha256: str = ""

    @classmethod
    def parse(cls, body: Any) -> Wanted:
        """Of a JSON object. DataError where it has neither or both."""
        csr, bearer = (body.get(name, "") if isinstance(body, dict) else "" for name in ("csr", "bearer_sha256"))
        if not isinstance(csr, str) or not isinstance(bearer, str) or bool(csr) == bool(bearer):
            raise DataError("give either csr (PEM) or bearer_sha256 (64 hex digits)")
        if bearer and not _SHA256.fullmatch(bearer):
            raise DataError("bearer_sha256 is 64 hex digits in lower case")
        return cls(csr, bearer)

    @property
    def proof(self) -> str:
        """The same for the same key or secret."""
        return self.bearer_sha256 or hashlib.sha256(self.csr.encode()).hexdigest()


@dataclass(frozen=True)
class Issued:
    """certificate: PEM, "" for a bearer. expires_s: None when it does not end by itself."""

    device: str
    kind: str
    certificate: str
    ca: str
    expires_s: float | None

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Enrollment:
    """authority: None where the collector has no TLS; nothing can be enrolled then."""

    database: Database
    registry: Registry
    tokens: Tokens
    audit: Audit
    authority: Authority | None
    device_days: float = DEVICE_DAYS
    clock: Callable[[], float] = time.time

    def enroll(self, token_text: str, device: str, wanted: Wanted, origin: str) -> Issued:
        """RefusedError for a token that does not count (any more), NameTakenError, DataError for a wrong request.

        A repeat of the same request with the same token gets the same again and is not counted as a use."""
        secret = Secret.parse(token_text)
        if secret is None or secret.kind != ENROLL:
            raise RefusedError("this is no enrollment token", hint="edgeloop collect token create makes one")
        try:
            check_name(device, "device")
        except UsageError as error:
            raise DataError(error.message) from error
        try:
            with writing(self.database) as connection:
                token = self.tokens.look(connection, secret)
                found = self.registry.find(connection, device)
                repeat = _may_take(token, device, found, wanted)
                if not repeat:
                    self.tokens.use(connection, token)
                issued, credential = self._issue(device, wanted)
                values = {
                    "status": ENROLLED, "kind": issued.kind, "credential": credential, "expires_s": issued.expires_s,
                    "renewal": None, "renewal_expires_s": None, "proof": wanted.proof, "token_id": token.id,
                    "enrolled_s": self.clock(), "enrolled_from": origin,
                }  # fmt: skip
                if found is None or found.status == KNOWN:
                    given = {**(found.tags if found else {}), **token.tags}
                    values |= {"tags": tags_text(given), "group_name": token.group or (found.group if found else "")}
                self.registry.put(connection, device, **values)
                entry = self.audit.add_within(
                    connection, f"token {token.id}", "device.enroll", device, origin=origin, kind=issued.kind,
                    again=found is not None and found.status != KNOWN,
                )  # fmt: skip
        except RefusedError as error:
            if secret.id in {token.id for token in self.tokens.list(ENROLL)}:  # a stranger's inventions fill no log
                self.audit.add(f"token {secret.id}", "device.refused", device, origin=origin, reason=error.message)
            raise
        self.audit.on_entry(entry)
        return issued

    def renew(self, device: str, wanted: Wanted, origin: str) -> Issued:
        """A new credential for a device that has one; the old one counts until the new one is used."""
        with writing(self.database) as connection:
            found = self.registry.find(connection, device)
            if found is None or found.status != ENROLLED:
                raise RefusedError(f"{device!r} is not enrolled")
            issued, credential = self._issue(device, wanted)
            if issued.kind != found.kind:
                raise DataError(f"{device!r} is enrolled with a {found.kind}", hint="enroll it anew to change that")
            self.registry.put(connection, device, renewal=credential, renewal_expires_s=issued.expires_s)
            entry = self.audit.add_within(connection, f"device {device}", "device.renew", device, origin=origin)
        self.audit.on_entry(entry)
        return issued

    def _issue(self, device: str, wanted: Wanted) -> tuple[Issued, str]:
        if self.authority is None:
            raise RefusedError("this collector has no CA", hint="edgeloop collect init, then edgeloop collect --tls")
        ca = self.authority.ca_path.read_text(encoding="ascii")
        if wanted.bearer_sha256:
            expires_s = self.clock() + self.device_days * _DAY_S
            return Issued(device, BEARER, "", ca, expires_s), wanted.bearer_sha256
        certificate, facts = self.authority.sign_device(device, wanted.csr, days=self.device_days)
        return Issued(device, CERTIFICATE, certificate, ca, facts.not_after_s), facts.sha256


def _may_take(token: Token, device: str, found: RegisteredDevice | None, wanted: Wanted) -> bool:
    """Whether this is a repeat. RefusedError, NameTakenError for what the token does not allow."""
    if token.subject and token.subject != device:
        raise RefusedError(
            f"the token {token.id} is for another device", hint=f"run as that one: --device {token.subject}"
        )
    if found is None or found.status == KNOWN:
        return False
    if found.status == ENROLLED and found.proof == wanted.proof and found.token_id == token.id:
        return True
    if token.subject == device:  # the operator's word: this device, anew
        return False
    raise NameTakenError(
        f"there is a device {device!r} already",
        hint=f"give this one another name (--device NAME), or make a token for it: "
        f"edgeloop collect token create --device {device}",
    )
