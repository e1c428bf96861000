"""Files on a stick or in a folder that may be a stranger's: one appears whole under its name or not at all, and what is
no ordinary file (a link, a pipe) is not read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from edgeloop.errors import DataError

UNFINISHED = ".part"


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """It is on the disk when this returns. OSError; then nothing is left behind but what was there before."""
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        unfinished.unlink(missing_ok=True)  # also a link that a stranger put there
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def open_ordinary(path: Path) -> BinaryIO:
    """For reading. DataError for what is no ordinary file; OSError."""
    try:
        # A pipe must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise DataError(f"{path.name} is no ordinary file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path.name} is no ordinary file")
    return os.fdopen(descriptor, "rb")


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in it stays so after a power cut, where the file system can promise that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
