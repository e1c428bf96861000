"""`http://host:port` and `https://host:port?ca=FILE`: one POST per batch, the acknowledgement in the answer."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeloop.errors import ConfigError, DataError, DeviceError, UsageError
from edgeloop.telemetry.codec import MAX_ACK_BYTES, MAX_BATCH_BYTES, Ack, decode_ack, encode_batch
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.wire_values import tidy

REPORTS_PATH = "/v1/reports"
CONTENT_TYPE = "application/cbor"

_HINTS = {
    401: "the collector wants a token",
    403: "the collector does not take reports from here",
    404: "is it an edgeloop collector?",
    413: "the batch is too large for it",
    503: "its store is not available; reports are kept",
}
_BLAMES_BATCH = frozenset({400, 413, 422, 500})


class HttpTransport:
    """Keeps its connection between batches. HTTPS verifies the certificate and the host's name, always."""

    batch_bytes = MAX_BATCH_BYTES // 4

    def __init__(
        self, host: str, port: int | None = None, *, path: str = "", tls: ssl.SSLContext | None = None, shown: str = ""
    ) -> None:
        self._host, self._port, self._path, self._tls = host, port, path.rstrip("/") + REPORTS_PATH, tls
        self._shown = shown or f"{'https' if tls else 'http'}://{host}{f':{port}' if port else ''}"
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()
    ) -> Ack:
        """See `Transport.send`."""
        body = encode_batch(batch, answers)
        kept = self._connection is not None
        try:
            return self._post(body, timeout_s)
        except (ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise self._failed(error) from error
        except (OSError, http.client.HTTPException, DeviceError) as error:
            self.close()
            raise self._failed(error) from error
        # The collector had closed the kept connection. Sending twice is harmless, so once more on a new one.
        try:
            return self._post(body, timeout_s)
        except (OSError, http.client.HTTPException, DeviceError) as error:
            self.close()
            raise self._failed(error) from error

    def close(self) -> None:
        """See `Transport.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes, timeout_s: float) -> Ack:
        connection = self._connect(timeout_s)
        with _cut_after(timeout_s, connection.sock):
            connection.request("POST", self._path, body, {"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE})
            response = connection.getresponse()
            answer = response.read(MAX_ACK_BYTES + 1)
        if response.will_close or not response.isclosed():
            self.close()
        if response.status != 200:
            raise NotAcknowledgedError(
                f"{self._shown} answered {response.status} to a batch of reports",
                hint=_HINTS.get(response.status),
                blames_batch=response.status in _BLAMES_BATCH,
            )
        try:
            return decode_ack(answer)
        except DataError as error:
            raise NotAcknowledgedError(
                f"{self._shown} sent no acknowledgement: {error.message}", hint="is it an edgeloop collector?"
            ) from error

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None or connection.sock is None:
            if self._tls is not None:
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
            self._connection = connection
            connection.connect()
        connection.sock.settimeout(timeout_s)
        return connection

    def _failed(self, error: Exception) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        if isinstance(error, ssl.SSLCertVerificationError):
            return NotAcknowledgedError(
                f"{self._shown}: its certificate was refused: {tidy(error.verify_message)}",
                hint="give the collector's CA with ?ca=FILE",
            )
        # A stranger's words may be in the error.
        text = "no answer in time" if isinstance(error, TimeoutError) else tidy(str(error)) or type(error).__name__
        return NotAcknowledgedError(f"{self._shown} is not reachable: {text}", hint="reports are kept until it is back")


@contextmanager
def _cut_after(timeout_s: float, sock: socket.socket) -> Iterator[None]:
    """A socket's timeout starts anew with every byte; this one ends the exchange for a far end that drips."""
    expired = threading.Event()

    def cut() -> None:
        expired.set()
        with suppress(OSError):  # it ended by itself meanwhile
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def open_url(address: Address) -> HttpTransport:
    """UsageError for a URL without a host, ConfigError for a CA file that cannot be read."""
    parts = address.only("ca").parts
    try:
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError:
        host = ""
    if not host:
        raise UsageError(f"telemetry URL {address.url!r} has no valid host", hint="http://host:port")
    if parts.username is not None:
        raise UsageError("a telemetry URL takes no user or password")
    tls = None
    ca = address.options.get("ca")
    if parts.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=str(Path(ca).expanduser()) if ca else None)
        except OSError as error:
            raise ConfigError(f"CA file {ca!r} cannot be used: {error}", hint="it must be a PEM certificate") from error
    elif ca is not None:
        raise UsageError(f"telemetry URL {address.url!r}: ca needs https")
    return HttpTransport(
        host, parts.port, path=parts.path, tls=tls, shown=f"{parts.scheme}://{parts.netloc}{parts.path}"
    )
