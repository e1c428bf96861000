"""The collector's HTTP face: a socket, uvicorn in a thread on it, TLS where there is a CA."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DeviceError, MissingExtraError
from edgeloop.telemetry.collector.commands import CommandQueue
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.limits import ConnectionLimits, ListenAddress, RequestRates
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.samples.keeping import Quota
from edgeloop.telemetry.store.database import Store

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.security.audit import AuditEntry

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_KEEP_ALIVE_S = 75  # devices report every 10 to 60 s: spare them a new connection each time


def _silent(_entry: AuditEntry) -> None:
    return


@dataclass(frozen=True)
class Doors:
    """Who is let in, and how. tls: the folder of the CA; with it callers have to say who they are.

    open_to_all: nobody has to, whatever the address. samples: how many
    hard samples are taken. on_entry: told of every entry of the audit log made here.
    """

    tls: Path | None = None
    open_to_all: bool = False
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    rates: RequestRates = field(default_factory=RequestRates)
    samples: Quota = field(default_factory=Quota)
    on_entry: Callable[[AuditEntry], None] = _silent

    @property
    def asks_who(self) -> bool:
        return self.tls is not None and not self.open_to_all


LOOPBACK_ONLY = Doors()


@dataclass
class HttpServer:
    """The collector's HTTP face, served by a thread until `stop()`."""

    url: str
    _server: Any = field(repr=False)
    _thread: threading.Thread = field(repr=False)

    @classmethod
    def start(
        cls,
        address: ListenAddress,
        ingest: Ingest,
        store: Store,
        fleet: LiveFleet | None = None,
        commands: CommandQueue | None = None,
        *,
        doors: Doors = LOOPBACK_ONLY,
    ) -> HttpServer:
        """Returns when it takes requests. DeviceError when the address is not to be had; MissingExtraError; ConfigError
        and RefusedError for a CA that is of no use."""
        queue = commands or CommandQueue(store.database)
        config = _configured(ingest, store, fleet or LiveFleet(store), queue, doors)
        bound = _bind(address)
        try:
            server, thread = _start(config, bound, doors.connections.handshake_s)
        except BaseException:
            bound.close()
            raise
        url = address.url(bound.getsockname()[1], "http" if doors.tls is None else "https")
        return cls(url, server, thread)

    def stop(self) -> None:
        """Answer what is in hand, then end. May be called twice."""
        self._server.should_exit = True
        self._thread.join(timeout=_STOP_TIMEOUT_S)


def _bind(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it each answer takes 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise DeviceError(
            f"cannot listen on {address.host}:{address.port}: {error.strerror or error}",
            hint="is another collector running there? --listen 127.0.0.1:0 takes a free port",
        ) from error
    return bound


def _configured(ingest: Ingest, store: Store, fleet: LiveFleet, commands: CommandQueue, doors: Doors) -> Any:
    try:
        import uvicorn

        from edgeloop.telemetry.collector.app import create_app
        from edgeloop.telemetry.collector.protocol import MAX_HEAD_BYTES, guarded_protocol
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette", "h11"):
            raise
        raise MissingExtraError("the collector", "collector") from error
    from edgeloop.telemetry.collector.security.security import Security

    security = Security.over(
        store.database, doors.tls, enforced=doors.asks_who, rates=doors.rates, on_entry=doors.on_entry
    )

    def refused(reason: str) -> None:
        ingest.metrics.count(f"connections_{reason}")
        words = {"many": "too many connections: new ones are ended", "slow": "a client was too slow and was cut off"}
        ingest.notices.once(f"connections {reason}", words[reason])

    only_loopback_hosts = doors.tls is None and not doors.open_to_all
    config = uvicorn.Config(
        create_app(
            ingest, store, fleet, security, commands, only_loopback_hosts=only_loopback_hosts,
            sample_quota=doors.samples,
        ),
        http=guarded_protocol(doors.connections.within_descriptors(), refused),
        lifespan="off", ws="none", loop="asyncio", access_log=False, log_config=None, log_level="critical",
        server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )  # fmt: skip
    config.load()
    if doors.asks_who:
        security.check_anybody_may_enter()
    authority = security.enrollment.authority
    if authority is not None:
        from edgeloop.telemetry.collector.security.tls import ServerTls, check_certificate

        def tell(key: str, line: str) -> None:
            if key.startswith("tls"):
                ingest.metrics.count("handshakes_failed")
            ingest.notices.once(key, line)

        check_certificate(authority, time.time(), lambda line: ingest.notices.once("certificate", line))
        config.ssl = ServerTls(authority, tell).context
    return config


def serve(server: Any, bound: socket.socket, handshake_s: float) -> None:
    """Until the server ends, on an event loop of this thread."""

    class Loop(asyncio.SelectorEventLoop):
        async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
            """uvicorn has no setting for this; asyncio waits a minute."""
            if options.get("ssl") is not None:
                options["ssl_handshake_timeout"] = handshake_s
            return await super().create_server(*arguments, **options)

    loop = Loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.serve(sockets=[bound]))
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _start(config: Any, bound: socket.socket, handshake_s: float) -> tuple[Any, threading.Thread]:
    import uvicorn

    server = uvicorn.Server(config)
    work = partial(serve, server, bound, handshake_s)
    thread = threading.Thread(target=work, name="collector http", daemon=True)
    thread.start()
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline_s:
            server.should_exit = True
            raise DeviceError("the collector's HTTP server did not start")
        time.sleep(0.005)
    return server, thread
