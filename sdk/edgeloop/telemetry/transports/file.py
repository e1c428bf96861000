"""`file:///media/usb/edgeloop`: reports on a stick that somebody carries to the collector, and back.

The folder has to be there: a stick that is not mounted must not fill the disk under its mount point. `?max=64` bounds
what one device writes, in MiB.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.delivery.carried_files import ACK, BATCH, device_folder, read_whole, write_whole
from edgeloop.telemetry.delivery.carrying import Brought
from edgeloop.telemetry.delivery.whole_files import UNFINISHED
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Address, NotAcknowledgedError
from edgeloop.telemetry.wire.codec import MAX_BATCH, Ack, decode_ack, decode_batch, encode_batch

DEFAULT_MAX_MIB = 64
_GROWS_TO_BYTES = 16 * 1024
"""A smaller file is replaced by one that holds the new reports too: a file takes a whole cluster of the stick."""
_POLL_S = 0.02


@dataclass(frozen=True)
class _Lying:
    """A batch file of ours."""

    digests: frozenset[bytes]
    size_bytes: int


class FileTransport:
    """A `Carrier`. It remembers which reports the files of the folder hold by short digests of them."""

    batch_bytes = 64 * 1024

    def __init__(self, root: Path, device: str, max_bytes: int = DEFAULT_MAX_MIB * 2**20) -> None:
        self._root, self._folder, self._max_bytes = root, root / device_folder(device), max_bytes
        self._lying: dict[str, _Lying] = {}
        self._last = ""  # the file that may grow

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """See `Transport.send`: for a folder that a collector watches. Commands do not travel by stick, nor answers."""
        if answers:
            raise NotAcknowledgedError(f"{self._root} carries reports, no answers to commands")
        body = encode_batch(batch)
        self.look()
        new = [report for report in batch if not self.holds(report)]
        if new:
            self.put(new)
        deadline_s = time.monotonic() + timeout_s
        while not (brought := self.brought()):
            if time.monotonic() > deadline_s:
                text = f"{len(batch)} reports ({len(body)} bytes) lie in {self._folder}, nobody has answered yet"
                raise NotAcknowledgedError(text, hint="edgeloop telemetry import FOLDER")
            time.sleep(_POLL_S)
        self.forget(brought)
        accepted = tuple(span for each in brought for span in each.ack.accepted)
        return Ack(accepted, tuple(rejected for each in brought for rejected in each.ack.rejected))

    def look(self) -> bool:
        """See `Carrier.look`. Files of ours that the stick has damaged are removed: their reports are written again."""
        with self._explained():
            if not self._root.is_dir():
                self._lying.clear()
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self._folder.is_symlink():
                raise NotAcknowledgedError(f"{self._folder} is a link, not a folder", hint="remove it from the stick")
            for name, _size in self._names(UNFINISHED):  # the stick was pulled while it was written
                self._remove(name)
            found = dict(self._names(BATCH))
            gone = [name for name in self._lying if name not in found]
            for name in gone:
                del self._lying[name]
            for name in found:
                if name not in self._lying:
                    self._read(name, found[name])
            return bool(gone)

    def brought(self) -> Sequence[Brought]:
        """See `Carrier.brought`. What is no acknowledgement is removed."""
        found = []
        with self._explained():
            for name, _size in self._names(ACK):
                try:
                    found.append(Brought(name, decode_ack(read_whole(self._folder / name)[1])))
                except DataError:
                    self._remove(name)
                except FileNotFoundError:
                    continue
        return found

    def forget(self, brought: Collection[Brought]) -> None:
        """See `Carrier.forget`."""
        with self._explained():
            for each in brought:
                self._remove(each.name)
                # The collector removes the batch, too; here it may have been kept.
                self._remove(each.name.removesuffix(ACK) + BATCH)

    def holds(self, body: bytes) -> bool:
        """See `Carrier.holds`."""
        digest = _digest(body)
        return any(digest in lying.digests for lying in self._lying.values())

    def put(self, bodies: Sequence[bytes]) -> None:
        """See `Carrier.put`. NotAcknowledgedError when the stick, or our share of it, is full."""
        used = sum(lying.size_bytes for lying in self._lying.values())
        if used + sum(map(len, bodies)) > self._max_bytes:
            text = f"{self._folder} holds {used} bytes of reports, as much as it may"
            raise NotAcknowledgedError(text, hint="carry it to the collector, or raise ?max=MIB")
        with self._explained():
            self._folder.mkdir(exist_ok=True)
            former, lying = self._growing()
            together = [*lying, *bodies]
            if len(together) > MAX_BATCH or sum(map(len, together)) > self.batch_bytes:
                former, together = "", list(bodies)
            request_id = random.getrandbits(32)
            name = f"{request_id:08x}{BATCH}"
            body = encode_batch(together)
            write_whole(self._folder / name, request_id, body)
            self._lying[name] = _Lying(frozenset(map(_digest, together)), len(body))
            self._last = name
            if former:
                self._remove(former)

    def clear(self) -> None:
        """See `Carrier.clear`."""
        with self._explained():
            for name in list(self._lying):
                self._remove(name)

    def close(self) -> None:
        """Nothing is held open."""

    def _growing(self) -> tuple[str, Sequence[bytes]]:
        """The last file and its reports while it may grow; ("", ()) else."""
        lying = self._lying.get(self._last)
        if lying is None or lying.size_bytes >= _GROWS_TO_BYTES:
            return "", ()
        try:
            return self._last, decode_batch(read_whole(self._folder / self._last)[1]).reports
        except (DataError, FileNotFoundError):
            return "", ()

    def _names(self, suffix: str) -> Sequence[tuple[str, int]]:
        """(name, bytes) of files in our folder."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.name.endswith(suffix))
        except FileNotFoundError:
            return ()
        found = []
        for name in names:
            with suppress(FileNotFoundError):  # taken in meanwhile, where the folder is shared
                found.append((name, (self._folder / name).lstat().st_size))
        return found

    def _read(self, name: str, size_bytes: int) -> None:
        try:
            reports = decode_batch(read_whole(self._folder / name)[1]).reports
        except DataError:
            self._remove(name)
            return
        except FileNotFoundError:
            return
        self._lying[name] = _Lying(frozenset(map(_digest, reports)), size_bytes)

    def _remove(self, name: str) -> None:
        self._lying.pop(name, None)
        with suppress(FileNotFoundError, IsADirectoryError):
            (self._folder / name).unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _failed(self._root, error) from error


def _failed(root: Path, error: OSError) -> NotAcknowledgedError:
    texts = {
        errno.ENOENT: ("is not there", "is the stick in and mounted? make the folder on it once: mkdir"),
        errno.ENODEV: ("is gone", "was the stick pulled?"),
        errno.EIO: ("cannot be read or written", "was the stick pulled, or is it broken?"),
        errno.ENOSPC: ("is full", "carry it to the collector, or take a larger stick"),
        errno.EDQUOT: ("is full", "carry it to the collector"),
        errno.EROFS: ("is read-only", "mount it writable; a damaged stick is mounted read-only: check it"),
        errno.EACCES: ("may not be written by this user", "mount it for the agent's user"),
        errno.EPERM: ("may not be written by this user", "mount it for the agent's user"),
    }
    text, hint = texts.get(error.errno or 0, (f"failed: {error.strerror or error}", "is it a folder on a stick?"))
    return NotAcknowledgedError(f"{root} {text}", hint=hint)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()


def open_url(address: Address) -> FileTransport:
    """UsageError for a URL without an absolute path, a limit that is none, or without the device's name."""
    parts = address.only("max").parts
    root = unquote(parts.path)
    if parts.netloc or not root.startswith("/") or "\0" in root or root.strip("/") == "":
        raise UsageError(f"telemetry URL {address.url!r} names no folder", hint="file:///media/usb/edgeloop")
    limit = address.options.get("max", str(DEFAULT_MAX_MIB))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 1_000_000):
        raise UsageError(f"telemetry URL {address.url!r}: max {limit!r} is no number of MiB", hint="?max=64")
    if not address.device:
        raise UsageError(
            f"telemetry URL {address.url!r} needs the device's name", hint="open_transport(url, device=NAME)"
        )
    return FileTransport(Path(root), address.device, int(limit) * 2**20)
