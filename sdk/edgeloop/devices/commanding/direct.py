"""A device at the other end of a line that no collector holds."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from secrets import randbits

from edgeloop.devices.commanding.commander import DEFAULT_TIMEOUT_S, Start
from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.commands.codec import decode_answer
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id
from edgeloop.telemetry.serial_link.address import OpenDescriptor, SerialPort, explain
from edgeloop.telemetry.serial_link.link import Link
from edgeloop.telemetry.wire.framing import KIND_ANSWER, KIND_COMMAND, Frame, FrameReader, split_request

_STUCK_AFTER_S = 5.0
_AGAIN_AFTER_S = 2.0


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
        self._thread = threading.Thread(target=self._serve, name=f"line {port}", daemon=True)
        self._thread.start()

    def start(self) -> Start:
        """See `Way.start`."""
        command = Command("info", new_command_id())
        answer = self.ask(command, unsigned(command), DEFAULT_TIMEOUT_S)
        body = answer.body
        device, boot, uptime_s, counter = (body.get(n) for n in ("device", "boot", "uptime_s", "last_counter"))
        is_right = isinstance(device, str) and isinstance(boot, str) and isinstance(counter, int)
        if not is_right or not isinstance(uptime_s, (int, float)):
            raise DeviceError(f"{self._port}: the device does not say who it is")
        return Start(str(device), str(boot), float(uptime_s), int(str(counter)))

    def ask(self, command: Command, encoded: bytes, timeout_s: float) -> Answer:
        """See `Way.ask`. Sent again every two seconds while nothing comes: bytes get lost on a line, and a device does
        not obey the same command twice."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._link.send(KIND_COMMAND, randbits(32), encoded)
            until_s = time.monotonic() + min(_AGAIN_AFTER_S, left_s)
            while (wait_s := until_s - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    answer = self._arrived.get(timeout=wait_s)
                    if isinstance(answer, Exception):
                        text, hint = explain(answer)
                        raise DeviceError(f"serial port {self._port} {text}", hint=hint) from answer
                    if answer.id == command.id:
                        return answer
        raise DeviceError(
            f"serial port {self._port}: no answer to {command.kind} within {timeout_s:g} s",
            hint="does an edgeloop-agent report through this line, at the same speed?",
        )

    def close(self) -> None:
        """See `Way.close`."""
        self._link.stop()
        self._thread.join(2.0)

    def _serve(self) -> None:
        try:
            self._link.serve(self._take)
        except Exception as error:  # pyserial lets termios.error through, which is no OSError
            self._arrived.put(error)

    def _take(self, frame: Frame) -> None:
        if frame.kind == KIND_ANSWER:
            with suppress(DataError):
                self._arrived.put(decode_answer(split_request(frame.payload)[1]))
