"""What the HTTP server does per connection beyond HTTP: how many there are, how slow they may be, who is at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeloop.telemetry.collector.limits import ConnectionLimits
from edgeloop.telemetry.collector.security.guard import PEER_CERTIFICATE


def guarded_protocol(limits: ConnectionLimits, refused: Callable[[str], None]) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn. refused: told "many" or "slow" for each connection that was ended."""

    class GuardedProtocol(H11Protocol):  # type: ignore[misc]
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
