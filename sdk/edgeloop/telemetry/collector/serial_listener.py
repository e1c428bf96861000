"""Takes batches from a serial line and answers with acknowledgements."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import tty
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from edgeloop.errors import DataError, DeviceError, MissingExtraError, UsageError
from edgeloop.telemetry.codec import encode_ack
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.framing import KIND_ACK, KIND_BATCH, Frame, FrameReader, encode_request, split_request
from edgeloop.telemetry.store import StoreUnavailableError

DEFAULT_BAUD = 115_200
_POLL_S = 0.1
_WRITE_TIMEOUT_S = 5.0
_REOPEN_AFTER_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # then every 5 s
_NONSENSE_AFTER_BAD = 5


class Line(Protocol):
    """A byte stream both ways. Any OSError means that it is gone."""

    def read(self) -> bytes:
        """What is there; b"" after a short while without anything."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class SerialPort:
    """A port by path; can be opened again after it vanished."""

    path: str
    baud: int = DEFAULT_BAUD
    reopens: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.path

    def open(self) -> Line:
        """DeviceError with the next step when the port is absent, busy or not ours; UsageError for a wrong speed."""
        try:
            import serial
        except ImportError as error:
            raise MissingExtraError("telemetry over a serial port", "serial") from error
        try:
            port = serial.Serial(self.path, self.baud, timeout=_POLL_S, write_timeout=_WRITE_TIMEOUT_S, exclusive=True)
        except ValueError as error:
            raise UsageError(f"serial port {self.path}: {error}", hint="--serial /dev/ttyUSB0?baud=115200") from error
        except OSError as error:  # SerialException is one
            text, hint = _explain(error)
            raise DeviceError(f"serial port {self.path} {text}", hint=hint) from error
        return _PySerialLine(port)


@dataclass(frozen=True)
class OpenDescriptor:
    """A descriptor that is open already (the master of a pty pair, a socket); closed with the listener."""

    descriptor: int
    reopens: ClassVar[bool] = False  # once closed, its number may be another file's

    def __str__(self) -> str:
        return f"descriptor {self.descriptor}"

    def open(self) -> Line:
        try:
            if os.isatty(self.descriptor):
                tty.setraw(self.descriptor)
        except OSError as error:
            raise DeviceError(f"{self} cannot be used: {error.strerror}") from error
        return _DescriptorLine(self.descriptor)


def parse_serial(text: str) -> SerialPort:
    """`/dev/ttyUSB0`, `/dev/ttyUSB0?baud=57600` or `serial:///dev/ttyUSB0`. UsageError for anything else."""
    example = "--serial /dev/ttyUSB0 or --serial /dev/ttyUSB0?baud=57600"
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    baud = options.pop("baud", str(DEFAULT_BAUD))
    path = unquote(parts.path)
    if parts.scheme not in ("", "serial") or parts.netloc or not path or "\0" in path or options:
        raise UsageError(f"not a serial port: {text!r}", hint=example)
    if not (baud.isascii() and baud.isdigit() and 50 <= int(baud) <= 4_000_000):
        raise UsageError(f"serial port {path}: {baud!r} is no speed", hint=example)
    return SerialPort(path, int(baud))


class SerialListener:
    """One line, one thread. Batches are committed before they are acknowledged; what arrives damaged is dropped and
    the device sends it again. A port that vanishes is opened again when it is back."""

    def __init__(self, port: SerialPort | OpenDescriptor, ingest: Ingest) -> None:
        self._port = port
        self._ingest = ingest
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"serial {port}", daemon=True)
        self._line: Line | None = None
        self._whole = 0

    def start(self) -> None:
        """Open the port and begin. DeviceError when it cannot be opened now."""
        self._line = self._port.open()
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand. May be called at any time, also twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._line is None and not self._reopen():
                return
            try:
                self._serve()
            except EOFError:
                self._ingest.notices.once(f"serial {self._port} ended", f"serial {self._port}: the other end closed it")
                return
            except Exception as error:  # pyserial lets termios.error through, which is no OSError
                self._close()
                if not self._port.reopens:
                    text, _hint = _explain(error)
                    self._ingest.notices.once(f"serial {self._port} ended", f"serial {self._port} {text}")
                    return
                # pyserial's words for an unplugged adapter are two lines about multiple access: ours are plainer.
                text = f"serial port {self._port} stopped working (unplugged?); waiting for it to come back"
                self._ingest.notices.trouble(f"serial {self._port}", text)

    def _reopen(self) -> bool:
        """True when the port is open again, False when the listener is to stop."""
        attempt = 0
        while not self._stopping.wait(_REOPEN_AFTER_S[min(attempt, len(_REOPEN_AFTER_S) - 1)]):
            attempt += 1
            try:
                self._line = self._port.open()
            except DeviceError:
                continue
            self._ingest.notices.over(f"serial {self._port}", f"serial port {self._port} is back")
            return True
        return False

    def _serve(self) -> None:
        reader, counted = FrameReader(), 0
        line = self._line
        while line is not None and not self._stopping.is_set():
            for frame in reader.feed(line.read()):
                self._whole += 1
                answer = self._answer(frame)
                if answer:
                    line.write(answer)
            if reader.bad > counted:
                self._ingest.metrics.count("frames_damaged", reader.bad - counted)
                counted = reader.bad
                if not self._whole and counted >= _NONSENSE_AFTER_BAD:
                    self._ingest.notices.once(
                        f"nonsense {self._port}",
                        f"serial {self._port}: bytes arrive but no frame is whole; is the speed the same at both ends?",
                    )

    def _answer(self, frame: Frame) -> bytes | None:
        if frame.kind != KIND_BATCH:
            return None
        try:
            request_id, batch = split_request(frame.payload)
            ack = self._ingest.handle(batch)
        except (DataError, StoreUnavailableError):  # told by the ingest; without an answer the device sends again
            return None
        except Exception as error:  # a defect of ours is no reason to give up the line
            self._ingest.notices.once(f"defect {type(error).__name__}", f"serial {self._port}: failed: {error!r}")
            return None
        return encode_request(KIND_ACK, request_id, encode_ack(ack))

    def _close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with suppress(Exception):  # it vanished: there is nothing left to close
                line.close()


class _PySerialLine:
    def __init__(self, port: Any) -> None:
        self._port = port

    def read(self) -> bytes:
        # in_waiting or 1: a fixed size would wait for the timeout at the end of every frame.
        return bytes(self._port.read(self._port.in_waiting or 1))

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        self._port.close()


class _DescriptorLine:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> bytes:
        if not select.select([self._descriptor], [], [], _POLL_S)[0]:
            return b""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            time.sleep(_POLL_S)  # a pty's master while nobody holds the other end: somebody may come
            return b""
        if not data:
            raise EOFError
        return data

    def write(self, data: bytes) -> None:
        deadline_s = time.monotonic() + _WRITE_TIMEOUT_S
        while data:
            if not select.select([], [self._descriptor], [], max(deadline_s - time.monotonic(), 0))[1]:
                raise TimeoutError("takes no bytes")
            data = data[os.write(self._descriptor, data[:1024]) :]

    def close(self) -> None:
        os.close(self._descriptor)


def _explain(error: Exception) -> tuple[str, str | None]:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "is not there", "is the cable plugged in? `ls /dev/tty*` shows the ports"
    if number in (errno.EACCES, errno.EPERM):
        return "may not be opened by this user", "add the user to the group dialout"
    if number in (errno.EBUSY, errno.EAGAIN):
        return "is used by another program", "stop that one first"
    return f"failed: {' '.join(str(error).split())}", None
