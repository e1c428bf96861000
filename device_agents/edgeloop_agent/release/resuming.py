"""A file that is fetched in pieces over many days, if need be: what is on the disk is never fetched again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError

from edgeloop_agent.release.http_files import HttpFiles

CHUNK_BYTES = 256 << 10
"""What a power cut may cost: so much is flushed to the disk at once. Less is lost when the process is killed."""
_AGAIN_AFTER_S = (0.5, 2.0, 5.0)


def fetch(files: HttpFiles, url: str, path: Path, length: int, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """The file of exactly `length` bytes, at `path` when this returns, begun or not before. A connection that breaks is
    made again while it brings something. Raises DownloadError, OSError of the disk."""
    pauses = iter(_AGAIN_AFTER_S)
    while True:
        had = _size(path)
        try:
            _go_on(files, url, path, length)
            return
        except (DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError):
            raise
        except DownloadError as error:
            pause_s = next(pauses, None) if isinstance(error.__cause__, OSError) else None
            if pause_s is None or _size(path) <= had:
                raise
            sleep(pause_s)


def _go_on(files: HttpFiles, url: str, path: Path, length: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        start = file.tell()
        if start > length:
            file.truncate(0)
            start = 0
        if start == length:
            return
        try:
            _take(files, url, file.fileno(), start, length)
        except DownloadHTTPError as error:
            if not start or error.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            os.ftruncate(file.fileno(), 0)
            _take(files, url, file.fileno(), 0, length)


def _take(files: HttpFiles, url: str, descriptor: int, start: int, length: int) -> None:
    with files.get(url, most=length, start=start) as (begins, pieces):
        if begins != start:
            os.ftruncate(descriptor, begins)
        written, unflushed = begins, 0
        try:
            for piece in pieces:
                _write(descriptor, piece)
                written += len(piece)
                unflushed += len(piece)
                if unflushed >= CHUNK_BYTES:
                    os.fdatasync(descriptor)
                    unflushed = 0
        finally:
            os.fdatasync(descriptor)
        if written != length:
            raise DownloadLengthMismatchError(f"{url}: {written} bytes, {length} were published")


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
