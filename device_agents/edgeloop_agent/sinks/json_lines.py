"""`jsonl:FILE` or `jsonl:-` (stdout): a line of JSON per result."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from typing import TYPE_CHECKING, Any

from edgeloop.errors import UsageError
from edgeloop.paths import missing_hint
from edgeloop_agent.sinks import SinkSpec, Surroundings
from edgeloop_agent.sinks.lines import result_line

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

STDOUT = "-"
_FLUSH_LINES = 512
_READER_S = 5  # a reader that pauses (`| less`) loses lines after so long; the loop must not stand still for it


class JsonLines:
    """Appends to the file. Lines are kept until `flush`, or until 512 have come together. One thread writes; any may
    flush."""

    wants_frame = False

    def __init__(self, spec: SinkSpec, *, where: Surroundings) -> None:
        self.lines = self.lost = 0
        self.problem = ""
        self.closed = False
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._rest = b""  # what is left of a line that was cut when the disk was full
        self._has_reader = False
        if spec.path == STDOUT:
            self._fd = os.dup(where.stdout_fd)
            self._has_reader = not stat.S_ISREG(os.fstat(self._fd).st_mode)
            return
        try:
            self._fd = os.open(spec.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"sink {spec}: {error.strerror}", hint=missing_hint(spec.path)) from error

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        self._lines.append(result_line(source, time_s, result, latency_ms) + "\n")
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            # Taken from the front of the list, step by step atomic, while the other thread may append to its end.
            count = len(self._lines)
            taken = self._lines[:count]
            del self._lines[:count]
            if taken or self._rest:
                self._put(self._rest + "".join(taken).encode("ascii"))

    def _put(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                if self._has_reader:
                    self._await_reader()
                    done += os.write(self._fd, data[done : done + select.PIPE_BUF])
                else:
                    done += os.write(self._fd, data[done:] if done else data)
            self._rest, self.problem = b"", ""
            self.lines += data.count(b"\n")
        except OSError as error:
            self.problem = f"results are not written: {error.strerror or type(error).__name__}"
            self.lines += data[:done].count(b"\n")
            self.closed = isinstance(error, BrokenPipeError)
            left = data[done:]
            # The line that was cut is finished first next time, so that the file stays JSON lines.
            torn = data[done - 1 : done] not in (b"", b"\n") or (not done and bool(self._rest))
            self._rest = left[: left.index(b"\n") + 1] if torn else b""
            self.lost += left[len(self._rest) :].count(b"\n")

    def _await_reader(self) -> None:
        """A pipe that is ready takes PIPE_BUF bytes at once. A reader that stands still is waited for once. Raises
        OSError when it does not read."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        if not waiting.poll(0 if self.problem else _READER_S * 1000):
            raise OSError(errno.EAGAIN, f"the reader of stdout has read nothing for {_READER_S} s")

    def close(self) -> None:
        self.flush()
        self.lost += self._rest.count(b"\n")
        os.close(self._fd)
