"""`serial:///dev/ttyUSB0?baud=115200`: a line of JSON per result, for a microcontroller or a PLC gateway."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from edgeloop.errors import MissingExtraError
from edgeloop_agent.sinks import SinkSpec, Surroundings
from edgeloop_agent.sinks.queue import DEFAULT_QUEUE, QueuedLines

DEFAULT_BAUD = 115_200
_WRITE_TIMEOUT_S = 2.0


class SerialLine(QueuedLines):
    """A line slower than the results loses the oldest, and counts them."""

    def __init__(self, spec: SinkSpec, *, where: Surroundings) -> None:
        if find_spec("serial") is None:
            raise MissingExtraError("results on a serial line", "serial")
        baud = spec.options.get("baud", DEFAULT_BAUD)
        super().__init__(str(spec), lambda: _Port(spec.path, baud), spec.options.get("queue", DEFAULT_QUEUE))


class _Port:
    def __init__(self, path: str, baud: int) -> None:
        import serial

        self._port: Any = serial.Serial(path, baud, write_timeout=_WRITE_TIMEOUT_S, exclusive=True)
        self._port.write(b"\n")  # ends what was cut short before

    def send(self, line: str) -> None:
        self._port.write(line.encode("ascii") + b"\n")

    def close(self) -> None:
        self._port.close()
