"""Who asks: makes the command, signs it for this device and this start of its agent, waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.telemetry.commands.signing import signed, unsigned
from edgeloop.telemetry.commands.values import KINDS, Answer, Command, Plain, new_command_id
from edgeloop.telemetry.serial_link.address import is_serial_url, parse_serial

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey
    from edgeloop.telemetry.serial_link.chunks import Arrived
    from edgeloop.telemetry.serial_link.transfer import FileToSend

DEFAULT_TIMEOUT_S = 15.0
VALID_S = 900.0
"""A signed command that has not reached its device by then is refused there."""


class AnsweredError(DeviceError):
    """The device was reached and could not do it."""


@dataclass(frozen=True)
class Start:
    """A device's start that a command is signed for; last_counter: the highest known to be used in it."""

    device: str
    boot: str
    uptime_s: float
    last_counter: int


class Way(Protocol):
    """A way to one device."""

    def start(self) -> Start:
        """Which start of its agent runs there. DeviceError."""

    def ask(self, command: Command, encoded: bytes, timeout_s: float) -> Answer:
        """Hand over and wait. DeviceError where no answer comes in time."""

    def transfer(
        self, transfer_id: int, file: FileToSend, arrived: Arrived, on_arrived: Callable[[int], None], quiet_s: float
    ) -> Arrived:
        """Send what has not arrived of a file that the device has taken an offer of; on_arrived gets how many chunks
        more are there. What has arrived when that is all, or the device does not go on. DeviceError, also where nothing
        more has arrived for `quiet_s`."""

    def close(self) -> None: ...


def start_of(answer: Answer, where: str) -> Start:
    """What `info` says. DeviceError."""
    device, boot, uptime_s, counter = (answer.body.get(n) for n in ("device", "boot", "uptime_s", "last_counter"))
    is_right = isinstance(device, str) and isinstance(boot, str) and isinstance(counter, int)
    if not is_right or not isinstance(uptime_s, (int, float)):
        raise DeviceError(f"{where}: the device does not say who it is")
    return Start(str(device), str(boot), float(uptime_s), int(str(counter)))


class Commander:
    """For one device; also a context manager. `key` is asked for only where something must be signed."""

    def __init__(self, way: Way, key: Callable[[], SigningKey]) -> None:
        self._way, self._key = way, key
        self.transfer = way.transfer

    def ask(
        self, kind: str, arguments: Mapping[str, Plain] | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> dict[str, Any]:
        """The body of the answer. DeviceError where none comes or the device could not, RefusedError where it would
        not."""
        command = Command(kind, new_command_id(), arguments or {})
        if KINDS[kind].is_open:
            encoded = unsigned(command)
        else:
            start = self._way.start()
            # Milliseconds since 1970 grow from operator to operator without anybody keeping count.
            counter = max(start.last_counter + 1, time.time_ns() // 1_000_000)
            until_s = start.uptime_s + VALID_S
            command = Command(kind, command.id, command.arguments, start.device, start.boot, counter, until_s)
            encoded = signed(command, self._key())
        answer = self._way.ask(command, encoded, timeout_s)
        if answer.is_ok:
            return dict(answer.body)
        if "signed" in answer.error:
            hint = "its keys: `trust` or `operators` in the agent's config; yours: edgeloop keys"
            raise RefusedError(f"the device refused: {answer.error}", hint=hint)
        raise AnsweredError(f"the device answered: {answer.error}")

    def close(self) -> None:
        self._way.close()

    def __enter__(self) -> Commander:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def connect_agent(
    device: str, collector: str | None = None, *, key: Callable[[], SigningKey] | None = None
) -> Commander:
    """device: a line (`serial:///dev/ttyUSB0`, `socket://host:port`), or a device's name with the collector's URL.

    key: makes the operator's key available (default: the user's own). Raises UsageError, DeviceError.
    """
    way: Way
    if is_serial_url(device):
        if collector is not None:
            raise UsageError(f"{device} is a line, --collector is for a device's name", hint="give one of both")
        from edgeloop.devices.commanding.direct import DirectLine

        way = DirectLine(parse_serial(device, "serial:///dev/ttyUSB0?baud=115200"))
    elif "://" in device or device.startswith("/"):
        hint = f"serial://{device}" if device.startswith("/") else "serial:///dev/ttyUSB0, or NAME --collector URL"
        raise UsageError(f"device {device!r}: no way to reach its agent", hint=hint)
    else:
        from edgeloop.devices.commanding.through_collector import DEFAULT_COLLECTOR, ThroughCollector

        way = ThroughCollector(collector or DEFAULT_COLLECTOR, device)
    return Commander(way, key or _own_key)


def _own_key() -> SigningKey:
    from edgeloop.bundle.keys import load_or_create_signing_key

    return load_or_create_signing_key()
