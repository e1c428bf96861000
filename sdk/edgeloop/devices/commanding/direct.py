"""A device at the other end of a line that no collector holds."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from secrets import randbits

from edgeloop.devices.commanding.commander import DEFAULT_TIMEOUT_S, Start, start_of
from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.commands.codec import decode_answer
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop.telemetry.serial_link.address import OpenDescriptor, SerialPort, explain
from edgeloop.telemetry.serial_link.chunks import Arrived
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.serial_link.transfer import FileToSend, FileTransfer
from edgeloop.telemetry.wire.framing import (
    KIND_ANSWER,
    KIND_CHUNK_ACK,
    KIND_COMMAND,
    Frame,
    FrameReader,
    split_request,
)

_STUCK_AFTER_S = 5.0
_AGAIN_AFTER_S = 2.0
_LOOK_EVERY_S = 0.1


class LineGoneError(DeviceError):
    """The port is not there any more; it may come back."""


class DirectLine:
    """Reports that arrive meanwhile are not acknowledged: the device keeps them."""

    def __init__(self, port: SerialPort | OpenDescriptor) -> None:
        """Raises DeviceError where the line cannot be opened, one that a collector holds too."""
        self._port = port
        try:
            line = port.open()
        except DeviceError as error:
            if "another program" in error.message:
                hint = "a collector that holds it passes commands on: NAME --collector http://127.0.0.1:8080"
                raise DeviceError(error.message, hint=hint) from error
            raise
        self._link = Link(line, FrameReader(), stuck_after_s=_STUCK_AFTER_S)
        self._arrived: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        self._transfer: FileTransfer | None = None
        self._gone: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name=f"line {port}", daemon=True)
        self._thread.start()

    def start(self) -> Start:
        """See `Way.start`."""
        command = Command("info", new_command_id())
        return start_of(self.ask(command, unsigned(command), DEFAULT_TIMEOUT_S), str(self._port))

    def ask(self, command: Command, encoded: bytes, timeout_s: float) -> Answer:
        """See `Way.ask`. Sent again every two seconds while nothing comes: bytes get lost on a line, and a device does
        not obey the same command twice."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._check_there()
            self._link.send(KIND_COMMAND, randbits(32), encoded)
            until_s = time.monotonic() + min(_AGAIN_AFTER_S, left_s)
            while (wait_s := until_s - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    answer = self._arrived.get(timeout=wait_s)
                    if isinstance(answer, Exception):
                        self._check_there()
                    elif answer.id == command.id:
                        return answer
        raise DeviceError(
            f"serial port {self._port}: no answer to {command.kind} within {timeout_s:g} s",
            hint="does an edgeloop-agent report through this line, at the same speed? Without a bundle none runs: the "
            "first comes by flash or by edgeloop deploy ssh://...",
        )

    def transfer(
        self, transfer_id: int, file: FileToSend, arrived: Arrived, on_arrived: Callable[[int], None], quiet_s: float
    ) -> Arrived:
        """See `Way.transfer`."""
        transfer = FileTransfer(transfer_id, file, arrived, self._port.bytes_per_s)
        heard_s, count = time.monotonic(), transfer.arrived_chunks
        self._transfer = transfer
        try:
            self._link.wake()
            while transfer.is_going_on:
                self._check_there()
                transfer.news.wait(_LOOK_EVERY_S)
                transfer.news.clear()
                if (now := transfer.arrived_chunks) != count:
                    on_arrived(now - count)
                    heard_s, count = time.monotonic(), now
                elif time.monotonic() - heard_s > quiet_s:
                    raise DeviceError(f"serial port {self._port}: nothing arrives at the other end any more")
            return transfer.arrived
        finally:
            self._transfer = None

    def close(self) -> None:
        """See `Way.close`."""
        self._link.stop()
        self._thread.join(2.0)

    # -- in the line's thread

    def _serve(self) -> None:
        try:
            self._link.serve(self._take, self._send_chunks)
        except Exception as error:  # pyserial lets termios.error through, which is no OSError
            self._gone = error
            self._arrived.put(error)

    def _take(self, frame: Frame) -> None:
        with suppress(DataError):
            request_id, body = split_request(frame.payload)
            if frame.kind == KIND_ANSWER:
                self._arrived.put(decode_answer(body))
            elif frame.kind == KIND_CHUNK_ACK and (transfer := self._transfer) is not None:
                transfer.acknowledged(request_id, body)

    def _send_chunks(self) -> None:
        if (transfer := self._transfer) is not None:
            transfer.fill(self._link)

    def _check_there(self) -> None:
        if self._gone is not None:
            text, hint = explain(self._gone)
            raise LineGoneError(f"serial port {self._port} {text}", hint=hint) from self._gone
