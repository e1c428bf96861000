"""`serial:///dev/ttyUSB0?baud=115200`: a batch as one frame, the acknowledgement as another, through pyserial.

Both carry a request id, so that an acknowledgement that comes late or twice is not taken for that of another batch.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

from edgeloop.errors import DataError, DeviceError, EdgeloopError, MissingExtraError, UsageError
from edgeloop.telemetry.codec import MAX_ACK_BYTES, Ack, decode_ack, encode_batch
from edgeloop.telemetry.framing import DELIMITER, KIND_ACK, KIND_BATCH, FrameReader, encode_request, split_request
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.wire_values import tidy

DEFAULT_BAUD = 115_200
_POLL_S = 0.1
_WRITE_TIMEOUT_S = 1.0  # for a piece that the line carries in a quarter of it
_BITS_PER_BYTE = 10  # start, eight, stop
_MAX_ENCODED_ACK_BYTES = MAX_ACK_BYTES + MAX_ACK_BYTES // 254 + 64


class SerialTransport:
    """Takes the port at the first `send`, alone (`exclusive`), and keeps it until it fails."""

    def __init__(self, port: str, baud: int = DEFAULT_BAUD) -> None:
        self._port_name, self._baud = port, baud
        self._bytes_per_s = max(baud // _BITS_PER_BYTE, 1)
        self._port: Any = None
        self._reader = FrameReader(_MAX_ENCODED_ACK_BYTES)
        self._request_id = random.getrandbits(32)  # an answer to a former process's batch must not fit

    @property
    def batch_bytes(self) -> int:
        """About a second of the line."""
        return min(max(self._bytes_per_s, 1024), 64 * 1024)

    @property
    def bad_frames(self) -> int:
        """Damaged frames that arrived since the port was opened."""
        return self._reader.bad

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S) -> Ack:
        """See `Transport.send`. `timeout_s` starts when the line has had the time to carry the batch."""
        self._request_id = (self._request_id + 1) & 0xFFFF_FFFF
        # The zero in front ends whatever was cut short before.
        data = DELIMITER + encode_request(KIND_BATCH, self._request_id, encode_batch(batch))
        deadline_s = time.monotonic() + timeout_s + len(data) / self._bytes_per_s
        try:
            self._open()
            self._write(data, deadline_s)
            return self._wait_for_ack(deadline_s)
        except EdgeloopError:
            raise
        except Exception as error:  # SerialException, OSError and termios.error, which is neither
            self.close()
            raise self._failed(error) from error

    def close(self) -> None:
        """See `Transport.close`."""
        port, self._port = self._port, None
        if port is not None:
            with suppress(Exception):  # it vanished: there is nothing left to close
                port.close()

    def _open(self) -> None:
        if self._port is not None:
            return
        import serial

        try:
            self._port = serial.Serial(
                self._port_name, self._baud, timeout=_POLL_S, write_timeout=_WRITE_TIMEOUT_S, exclusive=True
            )
        except ValueError as error:  # SerialException is an OSError
            raise UsageError(f"serial port {self._port_name}: {error}", hint="try ?baud=115200") from error
        self._reader = FrameReader(_MAX_ENCODED_ACK_BYTES)

    def _write(self, data: bytes, deadline_s: float) -> None:
        piece = max(self._bytes_per_s // 4, 1)
        for start in range(0, len(data), piece):
            if time.monotonic() > deadline_s:
                raise TimeoutError
            self._port.write(data[start : start + piece])

    def _wait_for_ack(self, deadline_s: float) -> Ack:
        while time.monotonic() < deadline_s:
            # in_waiting or 1: a fixed size would wait for the timeout at the end of every answer.
            for frame in self._reader.feed(self._port.read(self._port.in_waiting or 1)):
                if frame.kind != KIND_ACK:
                    continue
                try:
                    request_id, body = split_request(frame.payload)
                    if request_id == self._request_id:
                        return decode_ack(body)
                except DataError as error:
                    raise NotAcknowledgedError(
                        f"serial port {self._port_name}: not an acknowledgement: {error.message}"
                    ) from error
        raise NotAcknowledgedError(
            f"serial port {self._port_name}: no acknowledgement in time",
            hint="is a collector listening at the other end, at the same speed?",
        )

    def _failed(self, error: Exception) -> DeviceError:
        number = getattr(error, "errno", None)
        if number == errno.ENOENT:
            text, hint = "is not there", "is the cable plugged in?"
        elif number in (errno.EACCES, errno.EPERM):
            text, hint = "may not be opened by this user", "add the user to the group dialout"
        elif number in (errno.EBUSY, errno.EAGAIN):
            text, hint = "is used by another program", "stop that one first"
        elif isinstance(error, TimeoutError) or "timeout" in str(error).lower():
            text, hint = "takes no bytes: nobody reads at the other end", None
        else:
            text, hint = f"failed: {tidy(str(error))}", "it is tried again"
        return NotAcknowledgedError(f"serial port {self._port_name} {text}", hint=hint)


def open_url(address: Address) -> SerialTransport:
    """UsageError for a URL without an absolute path or with a baud rate that is no number; MissingExtraError."""
    parts = address.only("baud").parts
    port = unquote(parts.path)
    if parts.netloc or not port.startswith("/") or "\0" in port:
        raise UsageError(f"telemetry URL {address.url!r} names no port", hint="serial:///dev/ttyUSB0?baud=115200")
    baud = address.options.get("baud", str(DEFAULT_BAUD))
    if not (baud.isascii() and baud.isdigit() and 50 <= int(baud) <= 4_000_000):
        raise UsageError(f"telemetry URL {address.url!r}: baud {baud!r} is no speed", hint="?baud=115200")
    if find_spec("serial") is None:
        raise MissingExtraError("telemetry over a serial port", "serial")
    return SerialTransport(port, int(baud))
