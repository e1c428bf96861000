"""A file that arrives in chunks, and what came of those that arrived, in `STATE/incoming`. stdlib only.

    incoming/SHA256.part      as long as the file will be: its room is taken before anything is sent
    incoming/SHA256.chunks    4 bytes for each chunk: its CRC-32, 0 where it is missing
    incoming/OFFER.verdict    what the door said to an offer, JSON

A chunk counts when the file holds what its checksum says. So a process that was killed loses the chunk that it was
writing, and after a power cut nothing counts that the disk has lost; nothing needs to be flushed on the way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.delivery.whole_files import sync_folder
from edgeloop.telemetry.serial_link.chunks import CHUNK_BYTES, ArrivedChunks, chunk_count

INCOMING = "incoming"
RESERVE_BYTES = 16 << 20
"""Stays free, as at the door."""
_PART, _CHUNKS, _VERDICT = ".part", ".chunks", ".verdict"
_KEPT_VERDICTS = 64
_SHA256, _OFFER = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")


class PartialFile:
    """Not for several threads at once. Raises OSError of the disk."""

    def __init__(self, state: Path, sha256: str, size: int, *, unpacked_bytes: int = 0) -> None:
        """One that was begun before is gone on with; another one makes room for it. Raises UsageError for what is no
        digest, DeviceError where the disk has no room for the file, its copy at the door and what is unpacked of it."""
        if not _SHA256.fullmatch(sha256):
            raise UsageError("sha256 is not 64 lowercase hexadecimal digits")
        folder = state / INCOMING
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{sha256}{_PART}"
        self._chunks_path = self.path.with_suffix(_CHUNKS)
        for other in (*folder.glob(f"*{_PART}"), *folder.glob(f"*{_CHUNKS}")):
            if other not in (self.path, self._chunks_path):
                other.unlink(missing_ok=True)
        self.size = size
        self.chunks = ArrivedChunks(chunk_count(size))
        here = self.path.stat().st_blocks * 512 if self.path.exists() else 0
        check_room(folder, 2 * size - min(here, size) + unpacked_bytes)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sums = os.open(self._chunks_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._file).st_size != size:
                os.ftruncate(self._sums, 0)
                os.ftruncate(self._file, size)
            _take_room(self._file, size)
            self._find_arrived()
        except BaseException:
            self.close()
            raise

    def put(self, number: int, data: bytes) -> None:
        """One chunk; what does not fit, or is there already, is dropped."""
        expected = min(CHUNK_BYTES, self.size - number * CHUNK_BYTES)
        if not self.chunks.takes(number) or len(data) != expected:
            return
        os.pwrite(self._file, data, number * CHUNK_BYTES)
        os.pwrite(self._sums, _sum(data).to_bytes(4, "big"), 4 * number)
        self.chunks.add(number)

    def close(self) -> None:
        """What has arrived stays."""
        os.close(self._file)
        os.close(self._sums)

    def _find_arrived(self) -> None:
        sums = array("I", os.pread(self._sums, 4 * self.chunks.total, 0).ljust(4 * self.chunks.total, b"\0"))
        if sums.itemsize != 4:
            raise OSError(errno.EINVAL, "no 32-bit integers here")
        sums.byteswap() if _IS_LITTLE else None
        for number, expected in enumerate(sums):
            if expected and self.chunks.takes(number):
                data = os.pread(self._file, min(CHUNK_BYTES, self.size - number * CHUNK_BYTES), number * CHUNK_BYTES)
                if _sum(data) == expected:
                    self.chunks.add(number)


_IS_LITTLE = array("H", [1]).tobytes() == b"\x01\x00"


def forget(path: Path) -> None:
    """A partial file that is not needed any more. OSError."""
    path.unlink(missing_ok=True)
    path.with_suffix(_CHUNKS).unlink(missing_ok=True)


def write_verdict(state: Path, offer: str, verdict: Mapping[str, Any]) -> None:
    """It is on the disk when this returns; the oldest of many are removed. OSError."""
    folder = state / INCOMING
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{checked_offer(offer)}{_VERDICT}"
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump(dict(verdict), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(folder)
    kept = sorted(folder.glob(f"*{_VERDICT}"), key=lambda each: each.stat().st_mtime_ns)
    for old in kept[:-_KEPT_VERDICTS]:
        old.unlink(missing_ok=True)


def read_verdict(state: Path, offer: str) -> dict[str, Any] | None:
    """None where the door has not said anything about this offer, or the disk has lost it."""
    try:
        found = json.loads((state / INCOMING / f"{checked_offer(offer)}{_VERDICT}").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remove_verdict(state: Path, offer: str) -> None:
    """It is to be judged anew. OSError."""
    (state / INCOMING / f"{checked_offer(offer)}{_VERDICT}").unlink(missing_ok=True)


def checked_offer(offer: str) -> str:
    """An offer's id. UsageError for what is none."""
    if not _OFFER.fullmatch(offer):
        raise UsageError("an offer's id is 16 lowercase hexadecimal digits")
    return offer


def _sum(data: bytes) -> int:
    return zlib.crc32(data) or 1


def check_room(folder: Path, bytes_needed: int) -> None:
    """DeviceError where the disk would have less than RESERVE_BYTES left."""
    free = shutil.disk_usage(folder).free - RESERVE_BYTES
    if bytes_needed > free:
        raise DeviceError(
            f"the disk has no room: {bytes_needed / 2**20:.1f} MiB are needed, {max(free, 0) / 2**20:.1f} are free",
            hint="nothing was taken; make room on the device",
        )


def _take_room(descriptor: int, size: int) -> None:
    with contextlib.suppress(NotImplementedError):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
