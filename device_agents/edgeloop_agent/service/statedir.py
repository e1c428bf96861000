"""The agent's state folder: one agent at a time in it, with its staged bundles and its spool."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError

LOCK = "agent.lock"
_RUNTIME_VARIABLE = "RUNTIME_DIRECTORY"  # systemd.exec(5)
SPOOL = "spool.db"
BUNDLES = "bundles"
MODELS = "models"
LOAD_TRACE = "load.jsonl"
LEAST_FREE_BYTES = 1 << 20
"""On a disk with less an agent does not start: spool, events and lock want some."""


@contextmanager
def locked_state(directory: Path, tell: Callable[[str], None] | None = None) -> Iterator[Path]:
    """Make the folder, keep any other agent out of it for as long. Raises UsageError, DeviceError.

    With `tell`, a folder on a disk that is read-only or full is stood in for by one in memory, which is said: a card
    that went bad does not keep the agent from its work. The kernel lets go of the lock with the process, however it
    ends.
    """
    where = directory
    try:
        try:
            descriptor = _open_lock(directory, LEAST_FREE_BYTES if tell is not None else 0)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC) or tell is None:
                raise
            where = stand_in(directory)
            tell(f"warning: state folder {directory}: {error.strerror}; {where} stands in for it until the next start")
            _make_private(where)
            descriptor = _open_lock(where, LEAST_FREE_BYTES)
    except OSError as error:
        hint = "--state DIR names one that can be written"
        if error.errno == errno.ENOSPC:
            hint = f"make room (1 MiB and what the bundle takes), or {hint}"
        raise DeviceError(f"state folder {where}: {error.strerror}", hint=hint) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"another agent (process {owner}) is using {where}", hint="--state DIR gives this one its own"
            ) from None
        with contextlib.suppress(
            OSError
        ):  # who it is helps people only: a full disk does not keep the agent from its work
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield where
    finally:
        os.close(descriptor)


def stand_in(directory: Path) -> Path:
    """Where the state is kept while the disk of `directory` is read-only or full: the same for all agents of a user."""
    runtime = os.environ.get(_RUNTIME_VARIABLE, "").partition(":")[0] or tempfile.gettempdir()
    name = hashlib.sha256(str(directory.absolute()).encode(errors="surrogateescape")).hexdigest()[:12]
    return Path(runtime) / f"edgeloop-state-{os.getuid()}-{name}"


def _make_private(directory: Path) -> None:
    """In a folder that others may write to, too: ours alone, or nothing. Raises OSError."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EACCES, "it belongs to another user")


def _open_lock(directory: Path, least_free_bytes: int) -> int:
    """Raises OSError, ENOSPC also where less is free."""
    directory.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(directory).free < least_free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
