"""The collector's end behind a real mosquitto, for the conformance suite."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.collector.mqtt_inbox import MqttInbox
from edgeloop.telemetry.collector.mqtt_listener import MqttListener
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.transports.mqtt_link import Link
from edgeloop.telemetry.wire.codec import Ack
from support.certificates import Certificates
from support.collecting import wait_until
from support.far_end import Collector, Line
from support.mosquitto import Mosquitto

DEVICE = "pi-1"  # whom the suite's reports are of


class _Through(Ingest):
    """An ingest that asks the line's collector."""

    line: Line

    def handle_all(self, requests: Sequence[Request]) -> list[Ack | Exception]:
        outcomes: list[Ack | Exception] = []
        for request in requests:
            assert request.sender == DEVICE
            try:
                outcomes.append(self.line.collector.handle(request.batch))
            except Exception as error:
                outcomes.append(error)
        return outcomes


class _FaultyInbox(MqttInbox):
    """Loses and garbles answers where the suite wants it."""

    def __init__(self, line: Line, ingest: Ingest, name: str) -> None:
        self._line = line
        super().__init__(ingest, name)

    def answer(self, link: Link, device: str, answer: bytes) -> None:
        fault = self._line.take_fault()
        if fault == "garbled":
            answer = answer[:4] + os.urandom(30)
        if fault in ("", "garbled"):
            super().answer(link, device, answer)


class MqttLine(Line):
    """What goes away is the collector: the broker stays."""

    def __init__(self, collector: Collector, folder: Path, certificates: Certificates | None = None) -> None:
        super().__init__(collector)
        self._store = open_store(f"sqlite:///{folder / 'page.db'}")
        self.broker = Mosquitto(folder, certificates)
        self._listen()
        self.transport = open_transport(self.broker.url, device=DEVICE)

    def _listen(self) -> None:
        ingest = _Through(self._store)
        ingest.line = self
        self._listener = MqttListener(self.broker.url, ingest)
        self._listener.make_inbox = partial(_FaultyInbox, self)
        self._listener.start()
        wait_until(lambda: self._listener.is_connected, "the collector is at the broker")

    def go_away(self) -> None:
        self._listener.stop()

    def come_back(self) -> None:
        self._listen()

    def close(self) -> None:
        self.transport.close()
        self._listener.stop()
        self.broker.stop()
        self._store.close()


class MqttsLine(MqttLine):
    """TLS and passwords; what goes away is the broker, with a kill -9."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        super().__init__(collector, folder, Certificates(folder))

    def go_away(self) -> None:
        self.broker.stop()
        wait_until(lambda: not self._listener.is_connected, "the collector misses the broker")

    def come_back(self) -> None:
        self.broker.start()
        wait_until(lambda: self._listener.is_connected, "the collector is at the broker again")
