"""`http://host:port`, `https://host:port?ca=FILE&cert=FILE&key=FILE`: a POST per batch, acknowledged in the answer."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgeloop.errors import DataError, DeviceError, EdgeloopError, UsageError
from edgeloop.telemetry.identity.enrolling import MAX_ANSWER_BYTES, explained
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.transports.http_credentials import Credentials, Given, Kept
from edgeloop.telemetry.transports.http_troubles import failed, refused_batch
from edgeloop.telemetry.transports.tls import client_context
from edgeloop.telemetry.wire.codec import MAX_ACK_BYTES, MAX_BATCH_BYTES, Ack, decode_ack, encode_batch

REPORTS_PATH = "/v1/reports"
CONTENT_TYPE = "application/cbor"


class HttpTransport:
    """Keeps its connection between batches. HTTPS verifies the certificate and the host's name, always."""

    batch_bytes = MAX_BATCH_BYTES // 4

    def __init__(
        self,
        host: str,
        port: int | None = None,
        *,
        path: str = "",
        tls: bool = False,
        credentials: Credentials | None = None,
        shown: str = "",
    ) -> None:
        """credentials: they decide about TLS and its trust; without them the system's, and nothing is shown."""
        self._host, self._port, self._path = host, port, path.rstrip("/")
        self._tls = tls
        self._credentials = credentials or Given(client_context() if tls else None)
        self._shown = shown or f"{'https' if tls else 'http'}://{host}{f':{port}' if port else ''}"
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`."""
        body = encode_batch(batch, answers)
        try:
            self.prepare(timeout_s)
        except (OSError, http.client.HTTPException, EdgeloopError) as error:
            self.close()
            raise self._failed(error) from error
        kept = self._connection is not None
        try:
            return self._post(body, timeout_s)
        except (ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise self._failed(error) from error
        except (OSError, http.client.HTTPException, EdgeloopError) as error:
            self.close()
            raise self._failed(error) from error
        # The collector had closed the kept connection. Sending twice is harmless, so once more on a new one.
        try:
            return self._post(body, timeout_s)
        except (OSError, http.client.HTTPException, EdgeloopError) as error:
            self.close()
            raise self._failed(error) from error

    def close(self) -> None:
        """See `Transport.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def post(self, path: str, body: bytes, timeout_s: float, limit: int) -> tuple[int, bytes]:
        """(status, the answer's first `limit` bytes) of something else than reports. NotAcknowledgedError.

        Neither enrolls nor renews: whoever sends the reports does, and two at once could take each other's credential.
        """
        about = {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE}
        try:
            status, _said, answer = self._exchange(path, body, about, timeout_s, limit)
        except (OSError, http.client.HTTPException, EdgeloopError) as error:
            self.close()
            raise self._failed(error) from error
        if status in (401, 403):  # there may be a newer credential, which a new connection shows
            self.close()
        return status, answer

    def prepare(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Enroll or renew where that is to be done; `send` does so by itself. Raises OSError, HTTPException and
        EdgeloopError."""

        def post(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            status, _said, answer = self._exchange(path, body, headers, timeout_s, MAX_ANSWER_BYTES)
            return status, answer

        if self._credentials.prepare(post):
            self.close()

    def _post(self, body: bytes, timeout_s: float) -> Ack:
        about = {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE}
        status, said, answer = self._exchange(REPORTS_PATH, body, about, timeout_s, MAX_ACK_BYTES + 1)
        if status != 200:
            raise refused_batch(self._shown, status, explained(answer).get("error"), said.get("Retry-After"))
        try:
            return decode_ack(answer)
        except DataError as error:
            raise NotAcknowledgedError(
                f"{self._shown} sent no acknowledgement: {error.message}", hint="is it an edgeloop collector?"
            ) from error

    def _exchange(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, limit: int
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """(status, headers, at most `limit` bytes of the answer)."""
        deadline_s = time.monotonic() + timeout_s
        connection = self._connect(timeout_s)
        connection.response_class = partial(_Response, deadline_s=deadline_s)  # type: ignore[assignment]
        connection.request("POST", self._path + path, body, {**self._credentials.headers(), **headers})
        response = connection.getresponse()
        answer = response.read(limit)
        if response.will_close or not response.isclosed():
            self.close()
        return response.status, response.headers, answer

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None or connection.sock is None:
            tls = self._credentials.context()
            if tls is not None:
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=tls)
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
            self._connection = connection
            connection.connect()
        connection.sock.settimeout(timeout_s)
        return connection

    def _failed(self, error: Exception) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        if isinstance(error, EdgeloopError):  # a token that was refused, a file that cannot be read
            return NotAcknowledgedError(f"{self._shown}: {error.message}", hint=error.hint)
        return failed(self._shown, error, tls=self._tls)


class _Response(http.client.HTTPResponse):
    """Has to be here by `deadline_s`: a socket's timeout starts anew with every byte, and a far end may drip. (For what
    is sent it does not, or the far end has proven who it is.)"""

    def __init__(self, sock: socket.socket, *arguments: Any, deadline_s: float, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Until(sock, deadline_s))


class _Until(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._sock, self._deadline_s = sock, deadline_s
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open as long as it is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def open_url(address: Address) -> HttpTransport:
    """UsageError for a URL without a host, ConfigError for a CA, certificate or key that cannot be read.

    Options: ca, cert, key, token_file (with a bearer's token). Without the last three, `https` uses what the state
    folder keeps.
    """
    parts = address.only("ca", "cert", "key", "token_file").parts
    try:
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        host = ""
    if not host:
        raise UsageError(f"telemetry URL {address.url!r} has no valid host", hint="http://host:port")
    if parts.username is not None:
        raise UsageError("a telemetry URL takes no user or password")
    secure = parts.scheme == "https"
    if address.options and not secure:
        raise UsageError(f"telemetry URL {address.url!r}: {min(address.options)} needs https")
    return HttpTransport(
        host,
        parts.port,
        path=parts.path,
        tls=secure,
        credentials=_credentials(address) if secure else None,
        shown=f"{parts.scheme}://{parts.netloc}{parts.path}",
    )


def _credentials(address: Address) -> Credentials:
    options = address.options
    token_file, ca = options.get("token_file"), options.get("ca")
    if address.state is not None and not options.keys() & {"cert", "key", "token_file"}:
        kept = Kept(IdentityFolder(address.state), address.url, Path(ca).expanduser() if ca else None)
        kept.context()  # a file that cannot be used is said now
        return kept
    tls = client_context(ca, options.get("cert"), options.get("key"))
    return Given(tls, Path(token_file).expanduser() if token_file else None)
