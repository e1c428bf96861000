"""Secrets as text, and how they are kept: tokens by SHA-256 (256 random bits), passwords by scrypt."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field

from edgeloop.errors import UsageError

ENROLL, API, SESSION, DEVICE = "enroll", "api", "session", "bearer"
_PREFIXES = {ENROLL: "elt", API: "ela", SESSION: "els", DEVICE: "eld"}
_ID_BYTES, _SECRET_BYTES = 5, 32
MAX_TEXT_CHARS = 100
"""No secret is longer."""
_FORM = re.compile(r"(el[a-z])-([0-9a-f]{10})-([A-Za-z0-9_-]{43})")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""16 MiB and some 40 ms for each try."""
MIN_PASSWORD_CHARS = 10
_MAX_PASSWORD_CHARS = 1000


@dataclass(frozen=True)
class Secret:
    """`elt-ID-SECRET`: its kind and a public id, by which it is listed and found, and what must stay secret."""

    kind: str
    id: str
    text: str = field(repr=False)

    @classmethod
    def make(cls, kind: str) -> Secret:
        """A new one of 256 random bits."""
        identifier = os.urandom(_ID_BYTES).hex()
        body = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode("ascii")
        return cls(kind, identifier, f"{_PREFIXES[kind]}-{identifier}-{body}")

    @classmethod
    def parse(cls, text: str) -> Secret | None:
        """None for what cannot be one."""
        match = _FORM.fullmatch(text.strip()) if len(text) <= MAX_TEXT_CHARS else None
        kind = next((k for k, prefix in _PREFIXES.items() if match and match[1] == prefix), None)
        return None if match is None or kind is None else cls(kind, match[2], match[0])

    @property
    def hash(self) -> str:
        """What is stored of it."""
        return hash_of(self.text)

    def matches(self, stored: str) -> bool:
        """In a time that tells nothing."""
        return hmac.compare_digest(self.hash, stored)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hash_password(password: str) -> str:
    """For `is_password`. UsageError for one that is too short."""
    if not MIN_PASSWORD_CHARS <= len(password) <= _MAX_PASSWORD_CHARS:
        raise UsageError(f"a password has {MIN_PASSWORD_CHARS} to {_MAX_PASSWORD_CHARS} characters")
    salt = os.urandom(16)
    digest = _scrypt(password, salt, **_SCRYPT)
    numbers = "$".join(str(_SCRYPT[name]) for name in ("n", "r", "p"))
    return f"scrypt${numbers}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def is_password(password: str, stored: str | None) -> bool:
    """Takes as long for a user that does not exist (None)."""
    if len(password) > _MAX_PASSWORD_CHARS:
        return False
    if stored is None:
        _scrypt(password, bytes(16), **_SCRYPT)
        return False
    try:
        _name, n, r, p, salt, digest = stored.split("$")
        found = _scrypt(password, base64.b64decode(salt), n=int(n), r=int(r), p=int(p))
        return hmac.compare_digest(found, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def _scrypt(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=64 << 20, dklen=32)
