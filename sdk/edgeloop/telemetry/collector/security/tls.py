"""The server's side of TLS: the certificate that is in the folder now, client certificates where a device has one."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeloop.errors import ConfigError, EdgeloopError
from edgeloop.telemetry.collector.security.authority import Authority

WARN_DAYS = 30
_DAY_S = 86_400.0

Tell = Callable[[str, str], None]
"""Takes (key, line): `Notices.once`."""


def check_certificate(authority: Authority, now_s: float, tell: Callable[[str], None]) -> None:
    """ConfigError for a server certificate that no client would take now; one that ends soon is told."""
    for what, facts, step in (
        ("the collector's certificate", authority.server, f"edgeloop collect init --renew --dir {authority.folder}"),
        ("the collector's CA", authority.ca, "make a new one in another folder and enroll the devices again"),
    ):
        if now_s < facts.not_before_s:
            raise ConfigError(
                f"{what} is valid from {_day(facts.not_before_s)}, and here it is {_day(now_s)}",
                hint="set this machine's clock",
            )
        if now_s >= facts.not_after_s:
            raise ConfigError(f"{what} expired on {_day(facts.not_after_s)}", hint=step)
        if now_s > facts.not_after_s - WARN_DAYS * _DAY_S:
            tell(f"{what} expires on {_day(facts.not_after_s)}: {step}")


class ServerTls:
    """A context for new connections that follows `server.pem`: what `collect init --renew` writes is used from the next
    handshake on; connections that stand stay."""

    def __init__(self, authority: Authority, tell: Tell) -> None:
        self._authority, self._tell = authority, tell
        self._current = self._load()
        self._seen = _stamp(authority.server_path)
        self.context = self._load()
        self.context.sni_callback = self._follow
        # asyncio gives a failed handshake to nobody.
        self.context.sslobject_class = _watched(tell)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.verify_mode = ssl.CERT_OPTIONAL  # browsers and bearers have none
        try:
            context.load_verify_locations(cafile=str(self._authority.ca_path))
            context.load_cert_chain(str(self._authority.server_path))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self._authority.server_path} cannot be used: {error}", hint="edgeloop collect init --renew"
            ) from error
        return context

    def _follow(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        stamp = _stamp(self._authority.server_path)
        if stamp != self._seen:
            self._seen = stamp
            try:
                check_certificate(self._authority, time.time(), lambda _line: None)
                self._current = self._load()
                self._tell(f"certificate {stamp}", "a new server certificate is in use")
            except (EdgeloopError, OSError) as error:
                self._tell(f"certificate {stamp}", f"the new server certificate is not used: {error}")
        connection.context = self._current


def explain_handshake(error: ssl.SSLError) -> str | None:
    """One line for the operator; None where a client merely went away."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"refused a client certificate: {error.verify_message}"
    reason = (error.reason or "").replace("_", " ").lower()
    if error.reason in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "BAD_REQUEST"):
        return "a client speaks plain HTTP to this TLS port: give it https://"
    if "alert" in reason:
        return f"a client ended its TLS handshake ({reason}): does it have this collector's ca.pem, and the right time?"
    return f"a TLS handshake failed: {reason}" if reason else None


def _watched(tell: Tell) -> type[ssl.SSLObject]:
    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                if line := explain_handshake(error):
                    tell(f"tls {line}", line)
                raise

    return Watched


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
