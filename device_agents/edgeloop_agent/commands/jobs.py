"""A command that takes long: a child process of its own, watched by the supervisor's loop. One at a time."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MAX_OUTPUT_BYTES = 1 << 20
_MAX_ERROR_BYTES = 8 << 10


@dataclass(frozen=True)
class Ended:
    """exit_code: -n for signal n. why: "" where it ended by itself."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    why: str = ""


class Job:
    """`done` is called once, in the selector's turn or in `watch`. The child dies with this process."""

    def __init__(
        self,
        command: Sequence[str],
        selector: selectors.BaseSelector,
        done: Callable[[Ended], None],
        *,
        timeout_s: float,
    ) -> None:
        """Raises OSError where it cannot be started."""
        self._selector, self._done = selector, done
        self._timeout_s = timeout_s
        self._until_s = time.monotonic() + timeout_s
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._output = {self._process.stdout.fileno(): bytearray(), self._process.stderr.fileno(): bytearray()}
        self._fds = tuple(self._output)
        for fd in self._fds:
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self._read(fd))
        self._open = set(self._fds)

    def watch(self) -> None:
        """End it where its time is over. At least once a second."""
        if self._open and time.monotonic() > self._until_s:
            self.end(f"took longer than {self._timeout_s:g} s")

    def end(self, why: str) -> None:
        """Kill it, if it still runs; `why` is in what `done` gets."""
        if self._open:
            self._process.kill()
            self._finish(why)

    def _read(self, fd: int) -> None:
        if fd not in self._open:
            return None
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, 1 << 16)
            if not data:
                self._forget(fd)
        kept = self._output[fd]
        kept += data
        if fd == self._fds[1]:
            del kept[:-_MAX_ERROR_BYTES]
        elif len(kept) > _MAX_OUTPUT_BYTES:
            return self.end("said too much")
        if not self._open:
            self._finish("")
        return None

    def _forget(self, fd: int) -> None:
        self._open.discard(fd)
        self._selector.unregister(fd)

    def _finish(self, why: str) -> None:
        for fd in tuple(self._open):
            self._forget(fd)
        code = self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        out, err = (bytes(self._output[fd]) for fd in self._fds)
        self._done(Ended(code, out, err, why))
