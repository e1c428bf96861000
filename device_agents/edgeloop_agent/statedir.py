"""The agent's state folder: one agent at a time in it, with its staged bundles and its spool."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError

LOCK = "agent.lock"
SPOOL = "spool.db"
BUNDLES = "bundles"
MODELS = "models"
LOAD_TRACE = "load.jsonl"


@contextmanager
def locked_state(directory: Path) -> Iterator[Path]:
    """Make the folder, keep any other agent out of it for as long. Raises UsageError, DeviceError.

    The kernel lets go of the lock with the process, however it ends.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DeviceError(
            f"state folder {directory}: {error.strerror}", hint="--state DIR names one that can be written"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"another agent (process {owner}) is using {directory}", hint="--state DIR gives this one its own"
            ) from None
        with contextlib.suppress(
            OSError
        ):  # who it is helps people only: a full disk does not keep the agent from its work
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield directory
    finally:
        os.close(descriptor)
