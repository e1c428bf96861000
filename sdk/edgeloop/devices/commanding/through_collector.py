"""A device that reports to a running collector, by its name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from edgeloop.devices.commanding.commander import DEFAULT_TIMEOUT_S, Start, start_of
from edgeloop.errors import DeviceError
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop.telemetry.reading.remote import ABSENT_HINT, CollectorClient
from edgeloop.telemetry.serial_link.chunks import RECEIVING, Arrived, decode_arrived
from edgeloop.telemetry.serial_link.transfer import FileToSend, sending_of
from edgeloop.telemetry.wire import strict_cbor

DEFAULT_COLLECTOR = "http://127.0.0.1:8080"
_WAIT_S = 10.0
_RELAYED_AT_ONCE = 64


class ThroughCollector:
    """The collector hands the command over with its next acknowledgement, on a serial line at once."""

    def __init__(self, url: str, device: str) -> None:
        self._client = CollectorClient(url, absent_hint=f"{ABSENT_HINT} --collector URL names another one")
        self._device = device

    def start(self) -> Start:
        """See `Way.start`. Of a device on a line by what it says itself: the reports that come in may be old ones."""
        found = self._json(self._client.get(f"/v1/devices/{quote(self._device, safe='')}/commands"))
        if found.get("on_line"):
            command = Command("info", new_command_id())
            return start_of(self.ask(command, unsigned(command), DEFAULT_TIMEOUT_S), self._device)
        try:
            return Start(str(found["device"]), str(found["boot"]), float(found["uptime_s"]), int(found["last_counter"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense() from error

    def ask(self, command: Command, encoded: bytes, timeout_s: float) -> Answer:
        """See `Way.ask`."""
        deadline_s = time.monotonic() + timeout_s
        path = f"/v1/devices/{quote(self._device, safe='')}/commands"
        found = self._json(self._client.post(path, encoded, "application/cbor"))
        while found.get("state") not in ("answered", "expired"):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                reached = "has the command and did not answer" if found.get("state") == "delivered" else "took nothing"
                raise DeviceError(
                    f"{self._device} {reached} within {timeout_s:g} s",
                    hint="without a serial line a command goes out with the next report's acknowledgement; --timeout",
                )
            wait_s = f"{min(left_s, _WAIT_S):.2f}"
            found = self._json(self._client.get(f"/v1/commands/{command.id}", {"wait_s": wait_s}))
        if found["state"] == "expired":
            raise DeviceError(f"{self._device} was not there in time: the command has expired")
        body = found.get("answer")
        return Answer(command.id, body if isinstance(body, dict) else {}, str(found.get("error", "")))

    def transfer(
        self, transfer_id: int, file: FileToSend, arrived: Arrived, on_arrived: Callable[[int], None], quiet_s: float
    ) -> Arrived:
        """See `Way.transfer`."""
        answer = self._relayed(transfer_id, [])  # which tells the line's speed
        sending = sending_of(file, arrived, int(answer["bytes_per_s"]))
        heard_s, count = time.monotonic(), sending.arrived_chunks
        while arrived.state == RECEIVING:
            numbers = iter(lambda: sending.next(time.monotonic()), None)
            chunks = [file.chunk(number) for number in islice(numbers, _RELAYED_AT_ONCE)]
            told = bytes.fromhex(str(self._relayed(transfer_id, chunks)["arrived"]))
            if told:
                arrived = decode_arrived(told)
                sending.arrived(arrived, time.monotonic())
            if (now := sending.arrived_chunks) != count:
                on_arrived(now - count)
                heard_s, count = time.monotonic(), now
            elif time.monotonic() - heard_s > quiet_s:
                raise DeviceError(f"{self._device}: nothing arrives there any more", hint="is its line plugged in?")
        return arrived

    def _relayed(self, transfer_id: int, chunks: Sequence[bytes]) -> dict[str, Any]:
        path = f"/v1/devices/{quote(self._device, safe='')}/chunks"
        found = self._json(self._client.post(path, strict_cbor.dumps([transfer_id, list(chunks)]), "application/cbor"))
        if not isinstance(found.get("arrived"), str) or not isinstance(found.get("bytes_per_s"), int):
            raise self._nonsense()
        return found

    def close(self) -> None:
        """See `Way.close`."""

    def _json(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError as error:
            raise self._nonsense() from error
        if not isinstance(found, dict):
            raise self._nonsense()
        return found

    def _nonsense(self) -> DeviceError:
        return DeviceError(f"{self._client.shown} answered something else", hint="is it an edgeloop collector?")
