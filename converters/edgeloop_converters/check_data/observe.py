"""One pass over samples, keeping about 400 bytes of each: enough for ranges, blanks, outliers and duplicates."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.data import IMAGE, Dataset

Array = npt.NDArray[Any]

THUMB = 16
_LOOK = 128
_SLICE = 64


@dataclass(frozen=True)
class Sample:
    """What is kept of one sample, in the data's own units. digest: of shape and content. size: how many values.

    is_gray: a picture with three equal channels. hash: 64 bits of a picture's brightness gradients (dHash); thumb:
    uint8 [16, 16] of its brightness. Both are None for tensors.
    """

    low: float
    high: float
    mean: float
    std: float
    is_finite: bool
    digest: bytes
    size: int
    is_gray: bool = False
    hash: int | None = None
    thumb: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Observed:
    """indices: of the data set, ascending; samples: the same order. unreadable: what could not be read."""

    dataset: Dataset
    indices: npt.NDArray[np.int64]
    samples: tuple[Sample, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.dataset.kind

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        return None if self.dataset.labels is None else self.dataset.labels[self.indices]

    def name(self, position: int) -> str:
        return self.dataset.describe(int(self.indices[position]))

    def column(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray([getattr(s, name) for s in self.samples], np.float64)


def look_at(sample: Array, *, is_image: bool) -> Sample:
    """Statistics of one sample; those of a picture above 128 pixels are of the picture shrunk to that."""
    # Numbers are the same sample in whatever type two files keep them.
    content = np.ascontiguousarray(sample, None if is_image else np.float32)
    mark = repr((zlib.crc32(content.data.cast("B")), sample.shape)).encode()
    if is_image:
        return _picture(sample, mark)
    digest = hashlib.blake2b(content.data.cast("B"), digest_size=16, key=mark[:64]).digest()
    values = sample.astype(np.float64) if sample.dtype.kind != "f" else sample
    total = float(values.sum(dtype=np.float64))
    if not np.isfinite(total):
        return Sample(0.0, 0.0, 0.0, 0.0, False, digest, values.size)
    low, high = float(values.min()), float(values.max())
    return Sample(low, high, total / values.size, float(values.std(dtype=np.float64)), True, digest, values.size)


def _picture(frame: Array, mark: bytes) -> Sample:
    import cv2

    longest, values = max(frame.shape[:2]), frame.size
    if longest > _LOOK:
        size = (max(1, frame.shape[1] * _LOOK // longest), max(1, frame.shape[0] * _LOOK // longest))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    colored = frame.ndim == 3 and frame.shape[2] >= 3
    gray = cv2.cvtColor(frame[..., :3], cv2.COLOR_BGR2GRAY) if colored else frame.reshape(frame.shape[:2])
    mean, std = cv2.meanStdDev(frame)
    low, high, _, _ = cv2.minMaxLoc(frame.reshape(-1, 1))
    is_gray = bool(colored and _same_channels(frame))
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumb = np.asarray(cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)
    # Over all channels: the spread inside them and between them.
    spread = float(np.sqrt(np.mean(std**2) + np.var(mean)))
    # CRC-32 of every pixel and a real hash of the thumbnail: together as good as a hash of it all, and quicker.
    digest = hashlib.blake2b(thumb.tobytes(), digest_size=16, key=mark[:64]).digest()
    number = int.from_bytes(bits.tobytes(), "big")
    return Sample(low, high, float(mean.mean()), spread, True, digest, values, is_gray, number, thumb)


def _same_channels(frame: Array) -> bool:
    corner = frame[:4, :4]
    if (corner[..., 0] != corner[..., 1]).any():
        return False
    return bool((frame[..., 0] == frame[..., 1]).all() and (frame[..., 0] == frame[..., 2]).all())


def observe(
    dataset: Dataset, indices: Iterable[int], *, progress: Progress | None = None, threads: int = 2
) -> Observed:
    """Look at the samples at `indices`; none stays in memory."""
    wanted = np.asarray(sorted({int(i) for i in indices}), np.int64)
    seen: list[Sample] = []
    kept: list[int] = []
    unreadable: list[str] = []
    is_image = dataset.kind == IMAGE

    def look(i: int) -> Sample | str:
        try:
            return look_at(dataset.sample(i), is_image=is_image)
        except DataError as error:
            return error.message

    step = (progress or SilentProgress()).step("looking at the data", total=len(wanted))
    with step as advance, ThreadPoolExecutor(threads) as pool:
        # In slices, because `map` submits everything at once and Ctrl-C would wait for all of it.
        for start in range(0, len(wanted), _SLICE):
            part = wanted[start : start + _SLICE].tolist()
            for i, found in zip(part, pool.map(look, part), strict=True):
                if isinstance(found, str):
                    unreadable.append(found)
                else:
                    seen.append(found)
                    kept.append(i)
            advance(len(part))
    return Observed(dataset, np.asarray(kept, np.int64), tuple(seen), tuple(unreadable))
