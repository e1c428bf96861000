"""The real collector's ends of a line, for the conformance suite: its application on uvicorn, its serial listener."""

from __future__ import annotations

import os
import tty
from collections.abc import Sequence
from pathlib import Path

from edgeloop.errors import DeviceError
from edgeloop.telemetry.collector.http_server import LOOPBACK_ONLY, Doors, HttpServer
from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.collector.limits import parse_listen
from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.collector.serial_listener import SerialListener
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop.telemetry.serial_link.address import OpenDescriptor
from edgeloop.telemetry.store import StoreUnavailableError, open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import Ack
from support.far_end import Collector, Line
from support.securing import prepare_store


class _Through(Ingest):
    """An ingest that asks the line's collector, and loses answers where the suite wants it."""

    line: Line
    failure: type[DeviceError] = DeviceError

    def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
        outcomes: list[Ack | Exception] = []
        for request in requests:
            try:
                outcomes.append(self._through(request.batch))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def _through(self, batch: bytes) -> Ack:
        ack = self.line.collector.handle(batch)
        if self.line.take_fault():
            raise self.failure("the answer was lost")
        return ack


class UvicornLine(Line):
    """The collector's application as `edgeloop collect` serves it."""

    doors = LOOPBACK_ONLY
    options = ""
    state: Path | None = None

    def __init__(self, collector: Collector, folder: Path) -> None:
        super().__init__(collector)
        self._store = open_store(f"sqlite:///{folder / 'page.db'}")
        self._ingest = _Through(self._store)
        self._ingest.line = self
        self._listen = "127.0.0.1:0"
        self._running: HttpServer | None = None
        self.come_back()
        assert self._running is not None
        self._listen = self._running.url.partition("://")[2]
        self.transport = open_transport(self._running.url + self.options, state=self.state)

    def come_back(self) -> None:
        self._running = HttpServer.start(parse_listen(self._listen), self._ingest, self._store, doors=self.doors)

    def go_away(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def close(self) -> None:
        self.transport.close()
        self.go_away()
        self._store.close()


class HttpsLine(UvicornLine):
    """The same over mutual TLS: the first batch enrolls the device. Who is let in with what: tests/sdk/collector."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        authority = Authority.create(folder / "tls", ["127.0.0.1"])
        self.doors, self.options = Doors(authority.folder), f"?ca={authority.ca_path}"
        token = prepare_store(f"sqlite:///{folder / 'page.db'}")["enroll"]
        self.state = folder / "device"
        IdentityFolder(self.state).plant(token, "device")
        super().__init__(collector, folder)


class ListenerLine(Line):
    """The collector's serial listener at the master of a pty pair; the transport has the other end by its path."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        super().__init__(collector)
        self._store = open_store(f"sqlite:///{folder / 'page.db'}")
        self._ingest = _Through(self._store)
        self._ingest.line = self
        self._ingest.failure = StoreUnavailableError
        self.path = folder / "port"
        self.come_back()
        self.transport = open_transport(f"serial://{self.path}?baud=4000000")

    def come_back(self) -> None:
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        self._listener = SerialListener(OpenDescriptor(master), self._ingest)
        self._listener.start()

    def go_away(self) -> None:
        self._listener.stop()
        os.close(self._slave)
        self.path.unlink()

    def close(self) -> None:
        self.transport.close()
        if self.path.is_symlink():
            self.go_away()
        self._store.close()
