"""The folder of one trial on a device, and the one command run in it. Both go when the host does: see `_guard`."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from edgeloop.devices import _guard
from edgeloop.devices.connection import DEVICE_PYTHON, Device
from edgeloop.errors import DeviceError
from edgeloop.progress import Progress

OnLine = Callable[[str], None]

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = _guard.STOP_TIMEOUT_S + 5.0


class GuardedFolder:
    """`with GuardedFolder(device, path) as folder:` makes it; its end stops the command and removes the folder.

    Not re-entrant: one command per folder. `removed` are the stale folders of earlier runs that were found beside it.
    """

    def __init__(self, device: Device, path: PurePosixPath) -> None:
        """Raises DeviceError when the device cannot make it."""
        self.path = path
        self.removed: tuple[str, ...] = ()
        self._device = device
        self._ready = threading.Event()
        self._said: list[str] = []
        self._on_line: OnLine = self._said.append
        self._on_error: OnLine = self._said.append
        python = sys.executable if device.is_local else DEVICE_PYTHON
        source = Path(_guard.__file__).read_text(encoding="utf-8")
        self._process = device.start(
            [python, "-I", "-c", source, str(path)], self._line, lambda line: self._on_error(line)
        )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _line(self, line: str) -> None:
        if self._ready.is_set():
            self._on_line(line)
        elif line.startswith("ready "):
            self.removed = tuple(json.loads(line.removeprefix("ready ")))
            self._ready.set()
        else:
            self._said.append(line)

    def _await_ready(self) -> None:
        until_s = time.monotonic() + _START_TIMEOUT_S
        while not self._ready.wait(0.02):
            if self._process.poll() is not None or time.monotonic() > until_s:
                reason = self._said[-1] if self._said else "no answer"
                raise DeviceError(f"{self._device.url}: folder {self.path}: {reason}")

    def start(self, argv: Sequence[str], on_line: OnLine, on_error: OnLine | None = None) -> None:
        """Start the command; each line of its stdout goes to `on_line`, of stderr to `on_error` (default: the same)."""
        self._on_line, self._on_error = on_line, on_error or on_line
        self._order(list(argv))

    def wait(self, timeout_s: float) -> int | None:
        """The command's exit code, or None when it still runs after `timeout_s`."""
        return self._process.wait(timeout_s)

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); it is ended when it has not after ten seconds."""
        self._order("stop")

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._order("kill")

    def _order(self, order: object) -> None:
        self._process.send(json.dumps(order).encode() + b"\n")

    def close(self) -> None:
        """Stop what runs, remove the folder. When the connection is gone the device does both by itself."""
        self._process.end_input()
        self._process.wait(_END_TIMEOUT_S)

    def __enter__(self) -> GuardedFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def note_removed(folder: GuardedFolder, progress: Progress) -> None:
    """Say what earlier runs had left behind."""
    if folder.removed:
        count = len(folder.removed)
        what = "1 folder" if count == 1 else f"{count} folders"
        progress.note(f"removed {what} that an earlier run had left on the device: {', '.join(folder.removed)}")
