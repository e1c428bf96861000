"""What an HTTP transport shows of itself: nothing, files that the URL names, or what the state folder keeps."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeloop.errors import ConfigError, EdgeloopError, RefusedError
from edgeloop.telemetry.identity.enrolling import CERTIFICATE, Post, enroll, renew
from edgeloop.telemetry.identity.kept import Identity, IdentityFolder, base_of
from edgeloop.telemetry.transports.tls import client_context

_RENEW_AGAIN_S = 3600.0
_MAX_TOKEN_CHARS = 1000


class Credentials(Protocol):
    """Of one transport."""

    def context(self) -> ssl.SSLContext | None:
        """For a new connection; None without TLS."""

    def headers(self) -> Mapping[str, str]:
        """To send with every batch."""

    def prepare(self, post: Post) -> bool:
        """Whatever has to be asked of the collector first. True: connect anew. Raises EdgeloopError."""


@dataclass(frozen=True)
class Given:
    """Named by the caller."""

    tls: ssl.SSLContext | None = None
    token_file: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        return self.tls

    def headers(self) -> Mapping[str, str]:
        """Read each time: whoever renews the file need not tell us."""
        if self.token_file is None:
            return {}
        try:
            text = self.token_file.read_text(encoding="ascii")[:_MAX_TOKEN_CHARS].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token file {self.token_file} cannot be read") from error
        return {"Authorization": f"Bearer {text}"}

    def prepare(self, post: Post) -> bool:
        del post
        return False


@dataclass
class Kept:
    """Of a state folder: enrolls with the token that lies there, renews what ends soon."""

    folder: IdentityFolder
    url: str
    ca: Path | None = None
    _seen: tuple[int, ...] = ()
    _identity: Identity | None = None
    _context: ssl.SSLContext | None = None
    _renew_at_s: float = field(default=float("-inf"), repr=False)

    def context(self) -> ssl.SSLContext | None:
        self._look()
        return self._context

    def headers(self) -> Mapping[str, str]:
        identity = self._identity
        return {"Authorization": f"Bearer {identity.bearer}"} if identity is not None and identity.bearer else {}

    def prepare(self, post: Post) -> bool:
        self._look()
        pending, identity = self.folder.pending(), self._identity
        if pending is not None:
            try:
                enroll(self.folder, pending, self.url, post)
            except RefusedError:
                if identity is not None:  # a token that does not count changes nothing for who is enrolled already
                    self.folder.forget_pending()
                raise
            return True
        if identity is None or not identity.is_due(time.time()) or time.monotonic() < self._renew_at_s:
            return False
        self._renew_at_s = time.monotonic() + _RENEW_AGAIN_S
        with suppress(EdgeloopError):  # the one at hand still counts; what is wrong with it shows at the next batch
            renew(self.folder, identity, post)
            return True
        return False

    def _look(self) -> None:
        """At the files, where they changed."""
        stamp = self.folder.stamp()
        if stamp == self._seen and self._context is not None:
            return
        found = self.folder.identity()
        # What is for another collector is not shown to this one.
        here = found is not None and found.url == base_of(self.url)
        self._identity = found if here else None
        client = self.folder.client_path if self._identity is not None and self._identity.kind == CERTIFICATE else None
        self._context = client_context(_text(self.ca or self.folder.ca_path), _text(client))
        self._seen = stamp


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
