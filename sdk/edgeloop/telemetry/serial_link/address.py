"""Naming a serial line: a port of this machine, or one that another machine hands out over TCP."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from edgeloop.errors import DeviceError, MissingExtraError, UsageError
from edgeloop.telemetry.serial_link.lines import DescriptorLine, Line, PortObjectLine, open_descriptor
from edgeloop.telemetry.wire.values import tidy

DEFAULT_BAUD = 115_200
NETWORK_SCHEMES = ("rfc2217", "socket")
"""A serial port over TCP: with its settings (RFC 2217, as ser2net speaks it), or bare bytes."""
_BITS_PER_BYTE = 10  # start, eight, stop
_TURN_S = 0.02
_REOPEN_AFTER_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # then every 5 s


@dataclass(frozen=True)
class SerialPort:
    """A line by name; can be opened again after it vanished. path: of a port, or `rfc2217://host:port`."""

    path: str
    baud: int = DEFAULT_BAUD
    reopens: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.path

    @property
    def bytes_per_s(self) -> int:
        return max(self.baud // _BITS_PER_BYTE, 1)

    def open(self) -> Line:
        """Takes it alone. DeviceError with the next step when it is absent, busy or not ours; UsageError for a speed
        that it does not have; MissingExtraError."""
        try:
            import serial
        except ImportError as error:
            raise MissingExtraError("telemetry over a serial port", "serial") from error
        try:
            if self.path.startswith(NETWORK_SCHEMES):
                port = serial.serial_for_url(self.path, self.baud, timeout=_TURN_S)
            else:
                port = serial.Serial(self.path, self.baud, timeout=0, exclusive=True)
            return _line_of(port)
        except ValueError as error:  # SerialException is an OSError
            raise UsageError(f"serial port {self.path}: {tidy(str(error))}", hint="try ?baud=115200") from error
        except Exception as error:  # termios.error is no OSError
            text, hint = explain(error)
            raise DeviceError(f"serial port {self.path} {text}", hint=hint) from error


@dataclass(frozen=True)
class OpenDescriptor:
    """A descriptor that is open already (the master of a pty pair, a socket); closed with the line."""

    descriptor: int
    reopens: ClassVar[bool] = False  # once closed, its number may be another file's
    bytes_per_s: ClassVar[int] = DEFAULT_BAUD // _BITS_PER_BYTE

    def __str__(self) -> str:
        return f"descriptor {self.descriptor}"

    def open(self) -> Line:
        """DeviceError."""
        try:
            return open_descriptor(self.descriptor)
        except OSError as error:
            raise DeviceError(f"{self} cannot be used: {error.strerror}") from error


def is_serial_url(text: str) -> bool:
    """Whether `text` names a serial line: `serial:...`, `rfc2217:...`, `socket:...`."""
    scheme = text.partition(":")[0].lower()
    return ":" in text and scheme in ("serial", *NETWORK_SCHEMES)


def parse_serial(text: str, example: str = "--serial /dev/ttyUSB0 or --serial /dev/ttyUSB0?baud=57600") -> SerialPort:
    """`/dev/ttyUSB0`, `/dev/ttyUSB0?baud=57600`, `serial:///dev/ttyUSB0`, `rfc2217://host:port`, `socket://host:port`.
    UsageError for anything else."""
    wrong = UsageError(f"not a serial port: {tidy(text)!r}", hint=example)
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        scheme = parts.scheme
        if scheme in NETWORK_SCHEMES:
            path = f"{scheme}://{parts.netloc}"
            is_right = bool(parts.hostname and parts.port) and parts.path in ("", "/") and parts.username is None
        else:
            path = unquote(parts.path)
            is_right = scheme in ("", "serial") and not parts.netloc and path.startswith("/")
    except ValueError:
        raise wrong from None
    baud = options.pop("baud", str(DEFAULT_BAUD))
    if not is_right or not path.isprintable() or options:
        raise wrong
    if not (baud.isascii() and baud.isdigit() and 50 <= int(baud) <= 4_000_000):
        raise UsageError(f"serial port {path}: {baud!r} is no speed", hint=example)
    return SerialPort(path, int(baud))


def reopen_delay_s(failures: int) -> float:
    """How long to wait before a line that is gone is opened again, after so many tries in a row."""
    return _REOPEN_AFTER_S[min(failures, len(_REOPEN_AFTER_S) - 1)]


def explain(error: Exception) -> tuple[str, str | None]:
    """What happened to a port, to follow its name, and what to do."""
    number = getattr(error, "errno", None)
    text = tidy(str(error))
    if number == errno.ENOENT:
        return "is not there", "is the cable plugged in? `ls /dev/tty*` shows the ports"
    if number in (errno.EACCES, errno.EPERM):
        return "may not be opened by this user", "add the user to the group dialout"
    if number in (errno.EBUSY, errno.EAGAIN):
        return "is used by another program", "stop that one first"
    if number == errno.ECONNREFUSED or "refused" in text.lower():
        return "is not handed out: nobody listens there", "is ser2net (or the terminal server) running?"
    if isinstance(error, TimeoutError):
        return "takes no bytes: nobody reads at the other end", None
    return f"failed: {text}", "it is tried again"


def _line_of(port: Any) -> Line:
    try:
        return DescriptorLine(port.fileno(), port)
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        return PortObjectLine(port)
