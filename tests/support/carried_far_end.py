"""A folder between a device and a collector: somebody carries at once, for the conformance suite."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from edgeloop.errors import DeviceError
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import Ack
from support.far_end import Collector, Line
from support.mqtt_far_end import DEVICE


class _FaultyImport(CarriedImport):
    line: Line

    def answer(self, path: Path, request_id: int, ack: Ack) -> None:
        fault = self.line.take_fault()
        if fault == "lost":
            path.unlink()
            return
        if fault == "garbled":
            path.with_suffix(".ack").write_bytes(os.urandom(30))
            path.unlink()
            return
        super().answer(path, request_id, ack)


class FileLine(Line):
    """What goes away is the stick."""

    def __init__(self, collector: Collector, folder: Path) -> None:
        super().__init__(collector)
        self._root, self._away = folder / "stick", folder / "elsewhere"
        self._away.mkdir()
        self.come_back()
        self.transport = open_transport(f"file://{self._root}", device=DEVICE)

    def come_back(self) -> None:
        self._away.rename(self._root)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def go_away(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._root.rename(self._away)

    def close(self) -> None:
        self.transport.close()
        if self._root.exists():
            self.go_away()

    def _handle(self, batch: bytes) -> Ack:
        try:
            return self.collector.handle(batch)
        except DeviceError as error:  # a collector that fails on a batch, not one that is away
            raise RuntimeError from error

    def _carry(self) -> None:
        taking_in = _FaultyImport(self._handle)
        taking_in.line = self
        while not self._stopping.wait(0.005):
            with suppress(DeviceError):
                taking_in.run(self._root)
