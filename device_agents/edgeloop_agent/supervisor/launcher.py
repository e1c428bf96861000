"""Starting and watching one worker process: its command line, its socket, its page and its last words on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from edgeloop.errors import DeviceError
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.ipc import (
    BUSY_SINCE_NS,
    INVOKING_SINCE_NS,
    TELLING_SINCE_NS,
    Channel,
    Page,
    counts_of,
    last_counts_of,
)
from edgeloop_agent.reports.tally import Counts
from edgeloop_agent.worker.frame_ring import FrameRing

PYTHON_VARIABLE = "EDGELOOP_PYTHON"
"""A command that runs Python, where `sys.executable` cannot be started by the kernel (an emulated agent)."""

# The worker gets this process's import path as it is, so that it finds the same packages under `python -I` as well.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); del sys.argv[1];"
    " from edgeloop_agent.worker.main import main; sys.exit(main(sys.argv[1:]))"
)

# Set only where the user has not: one thread and one arena per library save some 20 MiB, and an image that says it has
# a billion pixels must not be believed.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26),
    "TF_CPP_MIN_LOG_LEVEL": "2",
}

_LAST_LINES = 20
_LONGEST_LINE = 300


class WorkerProcess:
    """A running worker. Times are seconds of `time.monotonic`."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        """Start a worker and send it the start message, with what descriptors it names. Raises DeviceError where that
        is impossible."""
        ours, theirs = socket.socketpair()
        self.page = Page()
        self.channel = Channel(ours)
        self.started_s = self.last_message_s = time.monotonic()
        self.ready_s: float | None = None
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._partial = b""
        command = [*python_command(), "-I", "-c", _BOOT, json.dumps([p for p in sys.path if p])]
        command += [str(theirs.fileno()), str(self.page.fd)]
        rings = [fd for fd in (start["gives_fd"], start["takes_fd"]) if fd is not None]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(), self.page.fd, *rings),
                    env={**_ENVIRONMENT, **os.environ},
                    start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone
                )
        except OSError as error:
            self.page.close()
            self.channel.close()
            raise DeviceError(f"cannot start a worker with {command[0]}: {error.strerror}") from error
        assert self._process.stderr is not None
        self.stderr_fd = self._process.stderr.fileno()
        os.set_blocking(self.stderr_fd, False)
        self.pid = self._process.pid
        with contextlib.suppress(OSError):  # it died at once: the supervisor will see that
            self.channel.send({"kind": "start", **start})

    @property
    def counts(self) -> Counts:
        """What the worker has done up to now."""
        return counts_of(self.page.slots)

    @property
    def last_counts(self) -> Counts:
        """What the worker has done, when it is dead."""
        return last_counts_of(self.page.slots)

    @property
    def busy_s(self) -> float:
        """How long the frame in work has been in work; 0 while it waits for one."""
        return self._since_s(BUSY_SINCE_NS)

    @property
    def invoking_s(self) -> float:
        """How long the model's invoke has taken by now; 0 outside of it."""
        return self._since_s(INVOKING_SINCE_NS)

    @property
    def telling_s(self) -> float:
        """How long the sinks have had the result in work; 0 outside of it."""
        return self._since_s(TELLING_SINCE_NS)

    def _since_s(self, slot: int) -> float:
        since = self.page.slots[slot]
        return max(0.0, (time.perf_counter_ns() - since) * 1e-9) if since else 0.0

    @property
    def last_words(self) -> str:
        """The last line on stderr that is not chatter of a library."""
        return next((x for x in reversed(self._lines) if not x.startswith(("INFO:", "WARNING:", "W0", "I0"))), "")

    def read_stderr(self) -> bool:
        """Take what is there. False: it was closed."""
        try:
            data = os.read(self.stderr_fd, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = rest[-_LONGEST_LINE:]
        texts = (line[:_LONGEST_LINE].decode("utf-8", "replace").strip() for line in lines)
        self._lines.extend(text for text in texts if text)
        return bool(data)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to finish its frame and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when it is still there after so long."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Free everything, after its death."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self.channel.close()
        self.page.close()


def start_message(
    config: AgentConfig,
    bundle: str,
    delegate: str,
    *,
    skip: int,
    count: int | None,
    gives: FrameRing | None = None,
    takes: FrameRing | None = None,
) -> dict[str, Any]:
    """What a worker is told. bundle: folder of the staged bundle; skip: frames that other workers have taken; gives,
    takes: rings for the frames it reads and from which it takes frames, see `sources.shared`.
    """
    return {
        "bundle": bundle,
        "variant": config.variant,
        "gallery": None if config.gallery is None else str(config.gallery),
        "delegate": delegate,
        "threads": config.threads,
        "source": config.source,
        "gives_fd": None if gives is None else gives.fd,
        "takes_fd": None if takes is None else takes.fd,
        "sinks": list(config.sinks),
        "skip": skip,
        "count": count,
        "loop": config.loop,
        "rate": config.rate,
        "recheck_s": config.recheck,
        "hard_samples": config.hard_samples.for_worker(config.folder),
        "activation": None if config.activation is None else config.activation.to_dict(),
    }


def python_command() -> list[str]:
    """How to start Python here: `EDGELOOP_PYTHON` (a shell-like command line), else this interpreter."""
    override = os.environ.get(PYTHON_VARIABLE)
    return shlex.split(override) if override else [sys.executable]
