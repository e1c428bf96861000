"""Commands on their way from a line's thread into the supervisor's loop."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

from edgeloop.telemetry.commands.correspondence import Reply

_MAX_WAITING = 16


class Inbox:
    """`put` from any thread; `fd` is readable while something waits."""

    def __init__(self) -> None:
        self.dropped = 0
        """Commands for which there was no room: nobody who means well sends so many at once."""
        self._waiting: deque[tuple[bytes, Reply | None]] = deque()
        self._lock = threading.Lock()
        self.fd, self._write_fd = os.pipe()
        self._is_closed = False
        for end in (self.fd, self._write_fd):
            os.set_blocking(end, False)

    def put(self, data: bytes, reply: Reply | None) -> None:
        """See `OnCommand`."""
        with self._lock:
            if self._is_closed:
                return
            if len(self._waiting) >= _MAX_WAITING:
                self.dropped += 1
                return
            self._waiting.append((data, reply))
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, b"x")

    def take(self) -> tuple[bytes, Reply | None] | None:
        """The oldest; None where nothing waits."""
        with self._lock:
            if len(self._waiting) <= 1:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.fd, 4096)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """What still waits is dropped."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self.fd)
                os.close(self._write_fd)
