"""Ways to read and write a line at the same time, each behind the same small interface."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import tty
from contextlib import suppress
from typing import Any, Protocol

_READ_BYTES = 1 << 16
_GONE_AFTER_S = 1.0


class Line(Protocol):
    """A byte stream both ways, for one thread; `wake` may come from any."""

    def exchange(self, outgoing: bytes, patience_s: float) -> tuple[bytes, int]:
        """Wait until there is something to read, `outgoing` moves, somebody wakes it, or the patience is over: (what
        was read, how many bytes of `outgoing` were taken). Any exception means that the line is gone; EOFError that the
        other end closed it for good."""

    def wake(self) -> None:
        """Ends the wait of an `exchange`, of the next one where none waits."""

    def close(self) -> None:
        """Not while an `exchange` is under way."""


class DescriptorLine:
    """A file descriptor: a port, the master of a pty pair, a socket. `owner`, where given, is what closes it."""

    def __init__(self, descriptor: int, owner: Any = None, *, is_master: bool = False) -> None:
        """is_master: of a pty pair, of which the other end may come and go."""
        self._descriptor, self._owner, self._is_master = descriptor, owner, is_master
        self._is_terminal = os.isatty(descriptor)
        self._empty_since_s: float | None = None
        self._closing = threading.Lock()
        self._is_closed = False
        self._woken, self._wake = os.pipe()
        for end in (descriptor, self._woken, self._wake):
            os.set_blocking(end, False)

    def exchange(self, outgoing: bytes, patience_s: float) -> tuple[bytes, int]:
        wants_to_write = [self._descriptor] if outgoing else []
        readable, writable, _ = select.select([self._descriptor, self._woken], wants_to_write, [], patience_s)
        data, count = b"", 0
        if self._woken in readable:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        if self._descriptor in readable:
            data = self._read()
        if writable:
            with suppress(BlockingIOError):
                count = os.write(self._descriptor, outgoing)
        return data, count

    def _read(self) -> bytes:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO or not self._is_master:
                raise
            time.sleep(0.1)  # nobody holds the other end: somebody may come
            return b""
        if data:
            self._empty_since_s = None
        else:
            self._read_nothing()
        return data

    def _read_nothing(self) -> None:
        """It was readable and had nothing: a socket has ended then; a terminal may say so for a moment, and is gone
        only where that lasts."""
        now = time.monotonic()
        if self._empty_since_s is None:
            self._empty_since_s = now
        if not self._is_terminal or now - self._empty_since_s > _GONE_AFTER_S:
            raise EOFError("the other end closed it")
        time.sleep(0.02)

    def wake(self) -> None:
        with self._closing:
            if not self._is_closed:  # else the number may be another file's by now
                with suppress(BlockingIOError):  # full: it is awake
                    os.write(self._wake, b"x")

    def close(self) -> None:
        with self._closing:
            self._is_closed = True
            for end in (self._woken, self._wake):
                os.close(end)
        if self._owner is not None:
            self._owner.close()
        else:
            os.close(self._descriptor)


class PortObjectLine:
    """A pyserial port without a descriptor (RFC 2217): it is asked in turns."""

    def __init__(self, port: Any) -> None:
        """port: with a short timeout for a read; to change it later would be a question to the far end."""
        self._port = port

    def exchange(self, outgoing: bytes, patience_s: float) -> tuple[bytes, int]:
        if outgoing:
            self._port.write(outgoing)
        return bytes(self._port.read(max(1, self._port.in_waiting))), len(outgoing)

    def wake(self) -> None:
        """Its turns are short."""

    def close(self) -> None:
        self._port.close()


def open_descriptor(descriptor: int) -> DescriptorLine:
    """A descriptor that is open already; a terminal is made raw. OSError."""
    is_terminal = os.isatty(descriptor)
    if is_terminal:
        tty.setraw(descriptor)
    return DescriptorLine(descriptor, is_master=is_terminal)
