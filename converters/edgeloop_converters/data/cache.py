"""Decoded pictures kept on disk, so that a second conversion of the same folder does not decode it again.

One entry per list of files and contract (the model's picture size and the way of resizing); what is kept is the picture
at that size, uint8 BGR. Color order and scaling come later and do not matter. An entry is two files:

    KEY/HxW-how.frames   frame i at i * bytes of a frame (sparse: only what was decoded takes room)
    KEY/HxW-how.index    a 256-byte header, then for every frame a stamp of its file (size, modification and change
                         time) and the CRC-32 of its pixels; 0: not there

Stamp and CRC are checked on every read; a picture that changed, or a damaged cache, is decoded again and written anew.
Frames are read with `preadv`, not mapped: a large folder takes page cache, not memory of this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeloop import paths
from edgeloop_converters.data.dataset import IMAGE, Array, Dataset, Indices

LIMIT_BYTES = 4 << 30
"""All entries together; the least recently used go first."""
MIN_FREE_BYTES = 1 << 30
"""Nothing is written when the disk has less left than this."""

_FORMAT = 3
_RECORD = np.dtype([("stamp", "<u8"), ("crc", "<u4")])
_HEADER_BYTES = 256
_CHANNELS = 3
_HIT, _MISS = 1, 2


class DecodedCache:
    """`attach` gives a dataset that reads through the cache. hits, misses: samples, each counted once per dataset."""

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder or paths.cache_dir() / "decoded"
        self._limit = limit_bytes
        self._entries: list[_Entry] = []

    @property
    def hits(self) -> int:
        return sum(e.seen.count(_HIT) for e in self._entries)

    @property
    def misses(self) -> int:
        return sum(e.seen.count(_MISS) for e in self._entries)

    def to_dict(self) -> dict[str, int]:
        return {"hits": self.hits, "misses": self.misses}

    def attach(self, dataset: Dataset, size: tuple[int, int], how: str) -> Dataset:
        """The same samples brought to `size` (height, width) by `how` as the contract says, from the cache or into it.

        Data that are no picture files come back as they are, and so does everything where the cache cannot be written.
        """
        key, files = _key(dataset), dataset.files
        if key is None or files is None:
            return dataset
        name = f"{size[0]}x{size[1]}-{how}" + ("-scaled" if dataset.decode_size else "")
        frame_bytes = size[0] * size[1] * _CHANNELS
        try:
            folder = self._folder / key
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            room = self._make_room(folder / name, len(dataset) * frame_bytes)
            entry = _Entry.open(folder / name, files, (*size, _CHANNELS), how, dataset, room)
        except OSError:
            return dataset
        self._entries.append(entry)
        return replace(dataset, read=entry.read)

    def knows(self, dataset: Dataset, indices: Sequence[int] | Indices) -> bool:
        """Whether all these samples are in one entry, of whatever size: then they need not be read ahead."""
        key, files = _key(dataset), dataset.files
        if key is None or files is None or not len(indices):
            return False
        for path in (self._folder / key).glob("*.index"):
            with suppress(OSError, ValueError):
                records = np.frombuffer(path.read_bytes()[_HEADER_BYTES:], _RECORD)
                if len(records) == len(files) and all(
                    records["crc"][i] and records["stamp"][i] == _stamp(files[i]) for i in indices
                ):
                    return True
        return False

    def close(self) -> None:
        for entry in self._entries:
            entry.close()

    def __enter__(self) -> DecodedCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_room(self, keep: Path, wanted: int) -> int:
        """Remove the least recently used entries until `wanted` bytes fit; how many bytes may be written."""
        others = []
        for index in self._folder.glob("*/*.index"):
            base = index.with_suffix("")
            if base != keep:
                with suppress(OSError):
                    others.append((index.stat().st_mtime_ns, _allocated(base), base))
        used = sum(size for _, size, _ in others)
        for _, size, base in sorted(others):
            if used + wanted <= self._limit:
                break
            for path in (base.with_name(base.name + ".index"), base.with_name(base.name + ".frames")):
                path.unlink(missing_ok=True)
            with suppress(OSError):
                base.parent.rmdir()
            used -= size
        free = shutil.disk_usage(self._folder).free - MIN_FREE_BYTES
        return max(0, min(self._limit - used - _allocated(keep), free))


@dataclass
class _Entry:
    """One open entry. Safe in threads: every frame has its own place, and its CRC is written after it."""

    frames: int
    index: int
    records: npt.NDArray[np.void]
    files: Sequence[str]
    shape: tuple[int, int, int]
    how: str
    source: Dataset
    room: int
    seen: bytearray = field(default_factory=bytearray)

    @staticmethod
    def open(
        base: Path, files: Sequence[str], shape: tuple[int, int, int], how: str, source: Dataset, room: int
    ) -> _Entry:
        count, empty = len(files), bytes(_RECORD.itemsize * len(files))
        header = json.dumps({"format": _FORMAT, "count": count, "shape": shape, "how": how}).encode()
        header = header.ljust(_HEADER_BYTES, b"\n")
        frame_bytes = shape[0] * shape[1] * shape[2]
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        index = os.open(base.with_name(base.name + ".index"), flags, 0o600)
        try:
            frames = os.open(base.with_name(base.name + ".frames"), flags, 0o600)
        except OSError:
            os.close(index)
            raise
        known = os.pread(index, _HEADER_BYTES + len(empty) + 1, 0)
        if known[:_HEADER_BYTES] != header or len(known) != _HEADER_BYTES + len(empty):
            os.ftruncate(index, 0)
            os.pwrite(index, header + empty, 0)
            known = header + empty
        if os.fstat(frames).st_size != count * frame_bytes:
            os.ftruncate(frames, count * frame_bytes)
        now = time.time_ns()  # finer than the kernel's own stamp
        os.utime(index, ns=(now, now))
        records = np.frombuffer(known[_HEADER_BYTES:], _RECORD).copy()
        return _Entry(frames, index, records, files, shape, how, source, room, bytearray(count))

    def read(self, i: int) -> Array:
        stamp = _stamp(self.files[i])
        frame = self._kept(i, stamp)
        if frame is not None:
            self.seen[i] = self.seen[i] or _HIT
            return frame
        self.seen[i] = self.seen[i] or _MISS
        return self._keep(i, self.source.read(i), stamp)

    def _kept(self, i: int, stamp: int) -> Array | None:
        known = self.records[i]
        if not known["crc"] or known["stamp"] != stamp or self.frames < 0:
            return None
        frame = np.empty(self.shape, np.uint8)
        try:
            complete = os.preadv(self.frames, [frame.data], i * frame.nbytes) == frame.nbytes
        except OSError:
            return None
        return frame if complete and _crc(frame) == known["crc"] else None

    def _keep(self, i: int, picture: Array, stamp: int) -> Array:
        """The picture at the entry's size; written unless it is no plain color picture or there is no room."""
        from edgeloop.preprocess import resize

        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != _CHANNELS:
            return picture
        frame = np.ascontiguousarray(resize(picture, self.shape[0], self.shape[1], self.how))
        if self.room < frame.nbytes or self.frames < 0:
            return frame
        record = np.array((stamp, _crc(frame)), _RECORD)
        try:
            os.pwrite(self.frames, frame.data, i * frame.nbytes)
            os.pwrite(self.index, record.tobytes(), _HEADER_BYTES + _RECORD.itemsize * i)
        except OSError:  # a full disk: go on without
            self.room = 0
            return frame
        self.records[i] = record
        self.room -= frame.nbytes
        return frame

    def close(self) -> None:
        for descriptor in (self.frames, self.index):
            if descriptor >= 0:
                os.close(descriptor)
        self.frames = self.index = -1


def _key(dataset: Dataset) -> str | None:
    """Of the list of files and what decodes them; None for data that are no picture files."""
    if dataset.files is None or dataset.kind != IMAGE:
        return None
    import cv2

    text = "\n".join((str(_FORMAT), cv2.__version__, str(Path(dataset.source).resolve()), *dataset.files))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _stamp(file: str) -> int:
    """64 bits of a file's size, modification and change time: different when it was written again. 0: not there.

    Python's hash of a tuple of numbers is the same in every process.
    """
    try:
        stat = os.stat(file)  # noqa: PTH116  # called once per sample; a Path costs more than the call
    except OSError:
        return 0
    return hash((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)) & 0xFFFFFFFFFFFFFFFF


def _crc(frame: Array) -> int:
    """CRC-32, never 0."""
    return zlib.crc32(frame.data) or 1


def _allocated(base: Path) -> int:
    """Bytes on disk of an entry; sparse parts do not count."""
    total = 0
    for suffix in (".frames", ".index"):
        with suppress(OSError):
            total += base.with_name(base.name + suffix).stat().st_blocks * 512
    return total
