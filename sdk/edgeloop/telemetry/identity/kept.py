"""What a device has of a collector, in `identity/` of its state folder: only its owner can read it.

`identity.json` says who it is, where, and until when; `client.pem` is key and certificate in one, so that both change
at once; `ca.pem` the collector's CA; `pending.json` a token that is to be used, with the key made for it.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeloop.errors import ConfigError, DeviceError, UsageError
from edgeloop.telemetry.identity.device_key import DeviceKey

FOLDER = "identity"
_IDENTITY, _PENDING, _CLIENT, _CA, _TOKEN = "identity.json", "pending.json", "client.pem", "ca.pem", "token"
_MAX_FILE_BYTES = 64 << 10
_BEARER_PREFIX = "eld"


@dataclass(frozen=True)
class Pending:
    """A token that is to be used, and the secret half of what it will be used for: the same at every try."""

    token: str = field(repr=False)
    device: str
    key: str = field(default="", repr=False)
    csr: str = ""
    bearer: str = field(default="", repr=False)

    @classmethod
    def make(cls, token: str, device: str, *, bearer: bool) -> Pending:
        if bearer:
            return cls(token, device, bearer=make_bearer())
        made = DeviceKey.make(device)
        return cls(token, device, made.private, made.csr)

    def wanted(self) -> dict[str, str]:
        """What the collector is asked for."""
        return {"csr": self.csr} if self.csr else {"bearer_sha256": sha256(self.bearer.encode()).hexdigest()}


@dataclass(frozen=True)
class Identity:
    """url: `https://host:port` where it counts. expires_s: None when it does not end by itself."""

    url: str
    device: str
    kind: str
    issued_s: float
    expires_s: float | None
    bearer: str = field(default="", repr=False)

    def is_due(self, now_s: float) -> bool:
        """To be renewed: a third of its time is left, or less."""
        if self.expires_s is None:
            return False
        return now_s > self.expires_s - (self.expires_s - self.issued_s) / 3


@dataclass(frozen=True)
class IdentityFolder:
    """Of a state folder. Files that others can read are made private; a damaged one is a ConfigError."""

    state: Path

    @property
    def path(self) -> Path:
        return self.state / FOLDER

    @property
    def client_path(self) -> Path:
        return self.path / _CLIENT

    @property
    def ca_path(self) -> Path | None:
        """None where the system's CAs are meant."""
        path = self.path / _CA
        return path if path.exists() else None

    def identity(self) -> Identity | None:
        """None before the enrollment."""
        found = self._read(_IDENTITY)
        return None if found is None else _made(Identity, found, self.path / _IDENTITY)

    def pending(self) -> Pending | None:
        found = self._read(_PENDING)
        return None if found is None else _made(Pending, found, self.path / _PENDING)

    def plant(self, token: str, device: str, *, bearer: bool = False) -> Pending:
        """A token for the next try. The same one again keeps the key that was made for it."""
        there = self.pending()
        if there is not None and (there.token, there.device, bool(there.bearer)) == (token, device, bearer):
            return there
        made = Pending.make(token, device, bearer=bearer)
        self._write(_PENDING, json.dumps(asdict(made)))
        return made

    def laid_token(self) -> str:
        """That `flash` left for the first run; "" where there is none."""
        try:
            return (self.path / _TOKEN).read_text(encoding="ascii")[:_MAX_FILE_BYTES].strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def forget_pending(self) -> None:
        """The token is not tried again."""
        (self.path / _PENDING).unlink(missing_ok=True)
        (self.path / _TOKEN).unlink(missing_ok=True)

    def keep_ca(self, pem: str) -> None:
        self._write(_CA, pem)

    def keep(self, identity: Identity, client_pem: str = "") -> None:
        """From now on it is this one; the token is forgotten."""
        if client_pem:
            self._write(_CLIENT, client_pem)
        self._write(_IDENTITY, json.dumps(asdict(identity)))
        self.forget_pending()

    def stamp(self) -> tuple[int, ...]:
        """Changes with the files."""
        return tuple(_changed_ns(self.path / name) for name in (_IDENTITY, _CLIENT, _CA, _PENDING))

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            text = path.read_bytes()[:_MAX_FILE_BYTES]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}") from error
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{path} is damaged", hint="remove it, and enroll this device again")
        return found

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all, and never readable by others, not even while it is written."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.path)  # mode 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.path / name)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise DeviceError(f"{self.path / name} cannot be written: {error.strerror}") from error


def make_bearer() -> str:
    """256 random bits, with an id to find it by."""
    return f"{_BEARER_PREFIX}-{secrets.token_hex(5)}-{secrets.token_urlsafe(32)}"


def base_of(url: str) -> str:
    """`https://host:port` of any URL of a collector. UsageError for one without https or host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "https":
        raise UsageError(f"{url.partition('?')[0]!r}: devices enroll over https", hint="https://host:8443")
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}:{port or 443}"


def _made(kind: Any, found: dict[str, Any], path: Path) -> Any:
    known = {name: found[name] for name in kind.__dataclass_fields__ if name in found}
    try:
        return kind(**known)
    except TypeError as error:
        raise ConfigError(f"{path} is damaged", hint="remove it, and enroll this device again") from error


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
