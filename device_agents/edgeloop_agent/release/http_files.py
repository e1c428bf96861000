"""Files over HTTP and HTTPS from one place: a kept connection, bounded sizes, a rate, a far end that may be hostile.

What is right about the bytes TUF decides; this sees to it that no far end costs more than it may: nothing is taken
without a length said before, and a far end that sends too slowly is left.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from socket import SHUT_RDWR
from urllib.parse import urljoin, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError

from edgeloop.version import VERSION

PIECE_BYTES = 64 << 10
_MOST_HOPS = 3
_MOST_OF_AN_ERROR_BYTES = 4096
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(?:\d{1,16}|\*)", re.ASCII)


class ElsewhereError(DownloadError):  # type: ignore[misc]
    """The far end sent us to another server."""


@dataclass(frozen=True)
class Patience:
    """timeout_s: without a single byte. head_s: from the request to the end of the answer's headers. window_s: in every
    such span at least `least_rate` bytes/s must come."""

    timeout_s: float = 15.0
    head_s: float = 30.0
    window_s: float = 20.0
    least_rate: float = 512.0


class Pace:
    """Keeps a transfer to a rate, and sees whether it comes at all. rate: bytes/s, 0 for no limit."""

    def __init__(
        self,
        rate: float,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._window_s, self._least = patience.window_s, patience.least_rate
        self._began_s = self._window_began_s = clock()
        self._total = self._in_window = 0

    @property
    def piece_bytes(self) -> int:
        """How much to ask for at once, so that a low rate is even."""
        return PIECE_BYTES if not self._rate else max(1024, min(PIECE_BYTES, int(self._rate / 4)))

    def took(self, size: int) -> None:
        """After a piece. Waits as long as the rate wants. Raises SlowRetrievalError."""
        now = self._clock()
        self._total += size
        self._in_window += size
        if now - self._window_began_s >= self._window_s:
            if self._in_window < self._least * (now - self._window_began_s):
                raise SlowRetrievalError(f"less than {self._least:.0f} bytes/s")
            self._window_began_s, self._in_window = now, 0
        if self._rate:
            early_s = self._total / self._rate - (now - self._began_s)
            if early_s > 0:
                self._sleep(early_s)
                self._window_began_s += early_s  # we waited, not for the far end


class HttpFiles:
    """The files below one URL. For one thread.

    Every method raises DownloadHTTPError, SlowRetrievalError, DownloadLengthMismatchError, ElsewhereError (all of them
    DownloadErrors with one line), and DownloadError for a connection that failed.
    """

    def __init__(
        self, base: str, *, context: ssl.SSLContext | None = None, rate: float = 0.0, patience: Patience | None = None
    ) -> None:
        """base: http://host[:port]/... or https://. context: of TLS; the system's trust without one."""
        self._origin = _origin(base)
        self._context, self._rate, self._patience = context, rate, patience or Patience()
        self._connection: http.client.HTTPConnection | None = None
        self.received = 0
        """Bytes of bodies so far."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def get(self, url: str, *, most: int, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """(where it begins, its pieces) of the file from `start` on, of `most` bytes in all at most. A far end that
        knows no ranges begins at 0."""
        with self._explained(url):
            answer = self._answer(url, {"Range": f"bytes={start}-"} if start else {})
            begins = 0
            if start and answer.status == HTTPStatus.PARTIAL_CONTENT:
                found = _CONTENT_RANGE.fullmatch(answer.getheader("Content-Range", ""))
                if found is None or int(found[1]) != start:
                    raise DownloadError(f"{url}: another range came than was asked for")
                begins = start
            elif answer.status != HTTPStatus.OK:
                self._drain(answer)
                raise DownloadHTTPError(f"{url}: {answer.status} {answer.reason}", answer.status)
            if answer.length is None:
                raise DownloadLengthMismatchError(f"{url}: the far end does not say how long it is")
            if begins + answer.length > most:
                raise DownloadLengthMismatchError(f"{url}: {begins + answer.length} bytes, {most} are allowed")
        try:
            yield begins, self._pieces(answer, url)
        finally:
            if not answer.isclosed():  # the rest of it stands before any other answer
                self.close()

    # -- inside

    @contextlib.contextmanager
    def _explained(self, url: str) -> Iterator[None]:
        """Turns what goes wrong with a connection into DownloadErrors, and closes it then."""
        try:
            yield
        except DownloadHTTPError:
            raise
        except DownloadError:
            self.close()
            raise
        except TimeoutError as error:
            self.close()
            raise SlowRetrievalError(f"{url}: nothing came for {self._patience.timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DownloadError(f"{url}: {_said(error)}") from error

    def _answer(self, url: str, more: dict[str, str]) -> http.client.HTTPResponse:
        for _ in range(_MOST_HOPS + 1):
            if _origin(url) != self._origin:
                raise ElsewhereError(f"{self._origin} sends us to another server, {_origin(url)}")
            answer = self._asked(url, more)
            if answer.status not in _REDIRECTS:
                return answer
            self._drain(answer)
            url = urljoin(url, answer.getheader("Location", ""))
        raise ElsewhereError(f"{self._origin} sends us from one place to the next")

    def _asked(self, url: str, more: dict[str, str]) -> http.client.HTTPResponse:
        kept = self._connection is not None
        try:
            return self._exchange(url, more)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.close()
            if not kept:
                raise
        return self._exchange(url, more)  # the far end had closed the kept connection

    def _exchange(self, url: str, more: dict[str, str]) -> http.client.HTTPResponse:
        connection = self._connection or self._connect()
        self._connection = connection
        parts = urlsplit(url)
        about = {"User-Agent": f"edgeloop-agent/{VERSION}", "Accept-Encoding": "identity", **more}
        with _limited(connection, self._patience.head_s):
            connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=about)
            return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._origin)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self._patience.timeout_s, context=self._context
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._patience.timeout_s)

    def _pieces(self, answer: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
        pace = Pace(self._rate, self._patience)
        left = answer.length or 0
        with self._explained(url):
            while left:
                piece = answer.read1(min(left, pace.piece_bytes))
                if not piece:
                    raise ConnectionResetError(0, "the connection ended in the middle of the file")
                left -= len(piece)
                self.received += len(piece)
                yield piece
                pace.took(len(piece))
        answer.close()  # and the connection can be used again

    def _drain(self, answer: http.client.HTTPResponse) -> None:
        if answer.length is None or answer.length > _MOST_OF_AN_ERROR_BYTES:
            self.close()
        else:
            answer.read()


@contextlib.contextmanager
def _limited(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Cuts the connection after so long: a byte now and then keeps every time-out of a socket from ending."""
    is_over = False

    def cut() -> None:
        nonlocal is_over
        is_over = True
        sock = connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    too_slow = SlowRetrievalError(f"{connection.host}: no answer within {seconds:g} s")
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if is_over:
            raise too_slow from error
        raise
    finally:
        timer.cancel()
    if is_over:  # half a head can look like a whole one
        raise too_slow


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
