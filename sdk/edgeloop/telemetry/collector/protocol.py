"""What the HTTP server does per connection beyond HTTP: how many there are, how slow they may be, who is at its end.

HTTP itself is read by httptools (llhttp, in C), at half the cost of a small request, or by h11 where that is not
installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edgeloop.telemetry.collector.limits import ConnectionLimits
from edgeloop.telemetry.collector.security.guard import PEER_CERTIFICATE

MAX_HEAD_BYTES = 16 << 10
"""Of a request's address and headers."""


def http_protocol() -> type[asyncio.Protocol]:
    """uvicorn's protocol class over the quickest parser that is here, with a bound for heads that come in pieces (`app`
    has that for whole ones)."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol  # bounded by h11_max_incomplete_event_size

        plain: type[asyncio.Protocol] = H11Protocol
        return plain
    return _bounded(HttpToolsProtocol)


def _bounded(base: Any) -> type[asyncio.Protocol]:
    """httptools keeps whatever comes of headers and trailers: no more than MAX_HEAD_BYTES between two steps of a
    request, and the piece that it began in."""

    class BoundedProtocol(base):  # type: ignore[misc]
        _stuck_bytes = 0
        _moved = False

        def data_received(self, data: bytes) -> None:
            self._moved = False
            super().data_received(data)
            self._stuck_bytes = 0 if self._moved else self._stuck_bytes + len(data)
            if self._stuck_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Invalid HTTP request received.")

        def on_message_begin(self) -> None:
            self._moved = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._moved = True
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._moved = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._moved = True
            super().on_message_complete()

    return BoundedProtocol


def guarded_protocol(limits: ConnectionLimits, refused: Callable[[str], None]) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn. refused: told "many" or "slow" for each connection that was ended."""

    class GuardedProtocol(http_protocol()):  # type: ignore[misc]
        app_state: dict[str, Any]
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.count:
                refused("many")
                transport.abort()
                return
            tls = transport.get_extra_info("ssl_object")
            certificate = tls.getpeercert(binary_form=True) if tls is not None else None
            self.app_state = {**self.app_state, PEER_CERTIFICATE: certificate}
            self._begin_patience()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.more_body:  # the request is here; now it is our turn
                self._end_patience()
            elif self._patience is None:
                self._begin_patience()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_patience()
            super().connection_lost(exc)

        def _begin_patience(self) -> None:
            self._patience = self.loop.call_later(limits.request_s, self._give_up)

        def _end_patience(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            refused("slow")
            self.transport.abort()

    return GuardedProtocol
