"""The accelerator that one process has at a time, lent to a rehearsal: the running models pause, and go on after it.

The door holds a lock on a file; a running agent looks at it every half second. The lock goes with the door's process,
so a door that is killed gives back what it borrowed. stdlib only, no numpy: one half is in the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgeloop.bundle.manifest import HOST_DELEGATES
from edgeloop.errors import EdgeloopError
from edgeloop_agent.delivery.file_lock import is_locked
from edgeloop_agent.service.status import ask

WANTED = ".wanted"
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 15.0
"""For a worker to end its frame and let go of the accelerator."""


class Lendable(Protocol):
    """A running model."""

    def state(self) -> dict[str, Any]: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Lender:
    """Of the running agent: call `look` in its loop. folder: where the door's lock is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WANTED
        self._looked_s = 0.0
        self._lent: list[Lendable] = []

    def look(self, models: Sequence[Lendable]) -> None:
        """Pause what uses an accelerator while somebody else wants it."""
        now = time.monotonic()
        if now - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now
        is_wanted = is_locked(self._path)
        if is_wanted and not self._lent:
            self._lent = [model for model in models if has_accelerator(model.state())]
            for model in self._lent:
                model.pause()
        elif not is_wanted and self._lent:
            for model in self._lent:
                model.resume()
            self._lent = []


@contextlib.contextmanager
def borrowed(state: Path, folder: Path) -> Iterator[bool]:
    """The accelerators of this device, as far as an agent on this state folder uses any: whether it let go of one."""
    if not any(has_accelerator(model) for model in _models(state)):
        yield False
        return
    descriptor = os.open(folder / WANTED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _are_paused(state)
    finally:
        os.close(descriptor)


def has_accelerator(model: dict[str, Any]) -> bool:
    """Whether a model in this state runs on something that may serve one process at a time."""
    ran = model.get("delegate_ran") or ""
    return bool(ran) and ran not in HOST_DELEGATES and model.get("phase") != "paused"


def _models(state: Path) -> list[dict[str, Any]]:
    try:
        return list(ask(state)["models"])
    except (EdgeloopError, KeyError, TypeError):  # none runs
        return []


def _are_paused(state: Path) -> bool:
    until_s = time.monotonic() + _PATIENCE_S
    while any(has_accelerator(model) for model in _models(state)):
        if time.monotonic() > until_s:  # an agent of before this
            return False
        time.sleep(0.1)
    return True
