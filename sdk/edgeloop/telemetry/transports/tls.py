"""The client's side of TLS for every transport that has it: the far end's certificate and name are always verified."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgeloop.errors import ConfigError


def client_context(ca: str | None = None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """ca: PEM file of who signed the far end's certificate (default: the system's). cert, key: PEM files of ours, where
    the far end wants one; `key` may be in `cert`. ConfigError for a file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=_path(ca))
    except OSError as error:
        raise ConfigError(f"CA file {ca!r} cannot be used: {error}", hint="it must be a PEM certificate") from error
    if cert is not None:
        try:
            # Without a callable OpenSSL would ask for the key's password on the terminal.
            context.load_cert_chain(_path(cert) or "", _path(key), password=lambda: b"")
        except OSError as error:
            raise ConfigError(
                f"client certificate {cert!r} cannot be used: {error}",
                hint="?cert=FILE&key=FILE, PEM, without password",
            ) from error
    elif key is not None:
        raise ConfigError(f"client key {key!r} has no certificate", hint="?cert=FILE&key=FILE")
    return context


def _path(name: str | None) -> str | None:
    return str(Path(name).expanduser()) if name else None
