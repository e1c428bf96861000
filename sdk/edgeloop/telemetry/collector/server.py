"""A running collector: the HTTP server in a thread, a thread per serial line, one ingest, one store."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import DeviceError, MissingExtraError
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.limits import ListenAddress, check_exposure, parse_listen
from edgeloop.telemetry.collector.notices import Notices, Say
from edgeloop.telemetry.collector.serial_listener import SerialListener
from edgeloop.telemetry.serial_link.address import OpenDescriptor, parse_serial
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.store import DEFAULT_STORE_URL, open_store
from edgeloop.telemetry.store.database import Store

DEFAULT_LISTEN = "127.0.0.1:8080"
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_KEEP_ALIVE_S = 75  # devices report every 10 to 60 s: spare them a new connection each time

SerialSpec = str | int
"""A port as `parse_serial` takes it, or an open file descriptor."""


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
        *,
        open_to_all: bool = False,
    ) -> HttpServer:
        """Returns when it takes requests. DeviceError when the address is not to be had; MissingExtraError."""
        bound = _bind(address)
        try:
            server, thread = _start_uvicorn(
                ingest, store, fleet or LiveFleet(store), bound, only_loopback_hosts=not open_to_all
            )
        except BaseException:
            bound.close()
            raise
        return cls(address.url(bound.getsockname()[1]), server, thread)

    def stop(self) -> None:
        """Answer what is in hand, then end. May be called twice."""
        self._server.should_exit = True
        self._thread.join(timeout=_STOP_TIMEOUT_S)


@dataclass
class CollectorHandle:
    """A collector that runs in this process until `stop()`; also a context manager."""

    store: Store
    ingest: Ingest
    http: HttpServer
    fleet: LiveFleet
    listeners: Sequence[SerialListener] = ()

    @property
    def url(self) -> str:
        """Where it really listens, e.g. `http://127.0.0.1:8080`."""
        return self.http.url

    def stop(self) -> None:
        """Finish what is in hand, answer it, close the store. May be called twice."""
        for listener in self.listeners:
            listener.stop()
        self.fleet.stop()  # ends the open streams
        self.http.stop()
        self.store.close()

    def __enter__(self) -> CollectorHandle:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


def start_collector(
    store_url: str = DEFAULT_STORE_URL,
    listen: str = "127.0.0.1:0",
    serial_ports: Sequence[SerialSpec] = (),
    *,
    open_to_all: bool = False,
    say: Say | None = None,
) -> CollectorHandle:
    """A collector in this process; returns when it takes reports. Port 0 takes a free one, `.url` has the real one.

    serial_ports: paths (`/dev/ttyUSB0?baud=57600`) or open descriptors, which then belong to the collector.
    say: takes a line when something is wrong or well again; nothing is said without it.
    Raises UsageError, RefusedError (an address that others reach, without `open_to_all`), DeviceError (address or
    serial port not to be had), and what `open_store` raises.
    """
    address = parse_listen(listen)
    check_exposure(address, open_to_all=open_to_all)
    ports = [OpenDescriptor(p) if isinstance(p, int) else parse_serial(p) for p in serial_ports]
    store = open_store(store_url)
    listeners: list[SerialListener] = []
    fleet = LiveFleet(store)
    try:
        ingest = Ingest(store, Notices(say or _silent), on_stored=fleet.observe)
        fleet.start()
        for port in ports:
            listener = SerialListener(port, ingest)
            listener.start()
            listeners.append(listener)
        http = HttpServer.start(address, ingest, store, fleet, open_to_all=open_to_all)
    except BaseException:
        for listener in listeners:
            listener.stop()
        fleet.stop()
        store.close()
        raise
    return CollectorHandle(store, ingest, http, fleet, listeners)


def run_collector(
    store_url: str,
    listen: str = DEFAULT_LISTEN,
    serial_ports: Sequence[SerialSpec] = (),
    *,
    open_to_all: bool = False,
    say: Say | None = None,
    on_ready: Callable[[CollectorHandle], None] | None = None,
) -> CollectorHandle:
    """`start_collector`, then wait for SIGTERM or SIGINT and stop. Main thread only. Returns the stopped handle."""
    done = threading.Event()
    former = {number: signal.signal(number, lambda *_: done.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with start_collector(store_url, listen, serial_ports, open_to_all=open_to_all, say=say) as handle:
            if on_ready is not None:
                on_ready(handle)
            while not done.wait(1.0):
                pass
        return handle
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _silent(_line: str) -> None:
    return


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


def _start_uvicorn(
    ingest: Ingest, store: Store, fleet: LiveFleet, bound: socket.socket, *, only_loopback_hosts: bool
) -> tuple[Any, threading.Thread]:
    try:
        import uvicorn

        from edgeloop.telemetry.collector.app import create_app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette"):
            raise
        raise MissingExtraError("the collector", "collector") from error
    config = uvicorn.Config(
        create_app(ingest, store, fleet, only_loopback_hosts=only_loopback_hosts),
        lifespan="off", ws="none", loop="asyncio", access_log=False, log_config=None, log_level="critical",
        server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="collector http", daemon=True)
    thread.start()
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline_s:
            server.should_exit = True
            raise DeviceError("the collector's HTTP server did not start")
        time.sleep(0.005)
    return server, thread
