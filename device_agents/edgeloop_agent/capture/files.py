"""Calibration data on the disk, without loss: pictures as PNG files, arrays in one .npz, as `edgeloop convert --data`
reads them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeloop.errors import DataError
from edgeloop_agent.capture.variety import is_picture

SAMPLES = "samples.npz"
MAX_ARRAY_BYTES = 512 << 20
_LEAST_FREE_BYTES = 100 << 20
_DIGITS = 6


class DiskFullError(DataError):
    """There is no room for another one."""


class Keeper(Protocol):
    """`data`: what `--data` takes. Frames that were there before count from the start."""

    data: str

    def before(self) -> Iterator[Any]:
        """Frames of an earlier capture into the same folder."""

    def keep(self, frame: Any) -> None:
        """Raises DataError for a frame that is none of this kind, DiskFullError."""

    def close(self) -> None:
        """Write what is not written yet."""


def keeper_for(frame: Any, folder: Path, *, is_rgb: bool) -> Keeper:
    """What keeps frames of this kind. Raises DataError."""
    if is_picture(frame):
        return Pictures(folder, is_rgb=is_rgb)
    return Arrays(folder)


class Pictures:
    """`000001.png` and so on; goes on behind the highest number that is there."""

    def __init__(self, folder: Path, *, is_rgb: bool) -> None:
        self.data = f"{folder}/"
        self._folder = folder
        self._is_rgb = is_rgb
        self._there = sorted(p for p in folder.glob("*.png") if p.stem.isdigit() and len(p.stem) == _DIGITS)
        self._next = int(self._there[-1].stem) + 1 if self._there else 1

    def before(self) -> Iterator[Any]:
        from edgeloop.pictures import read_picture

        for path in self._there:
            try:
                yield read_picture(str(path))
            except DataError:
                continue

    def keep(self, frame: Any) -> None:
        import cv2

        if not is_picture(frame):
            raise DataError("the frame is no picture, and those before were")
        if self._is_rgb and frame.ndim == 3 and frame.shape[2] == 3:
            frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".png", frame)[1].tobytes()
        check_room(self._folder, len(data))
        name = f"{self._next:0{_DIGITS}d}.png"
        begun = self._folder / f".{name}"
        try:
            begun.write_bytes(data)
            begun.replace(self._folder / name)
        except OSError as error:
            begun.unlink(missing_ok=True)
            raise DiskFullError(f"{self._folder}: {error.strerror}") from error
        self._next += 1

    def close(self) -> None:
        pass


class Arrays:
    """One array of all samples, `x`; of a model with several inputs one for each, by name."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SAMPLES
        self.data = str(self._path)
        if self._path.exists():
            raise DataError(f"{self._path} is there already", hint="another folder for -o, or move the file away")
        self._samples: list[dict[str, Any]] = []
        self._bytes = 0

    def before(self) -> Iterator[Any]:
        return iter(())

    def keep(self, frame: Any) -> None:
        sample = {name: np.array(part) for name, part in (frame if isinstance(frame, dict) else {"x": frame}).items()}
        first = self._samples[0] if self._samples else sample
        shapes = [{name: (part.shape, part.dtype) for name, part in each.items()} for each in (first, sample)]
        if shapes[0] != shapes[1]:
            had, got = ({name: list(shape) for name, (shape, _) in each.items()} for each in shapes)
            raise DataError(f"a sample of {got}, and those before were {had}")
        size = sum(part.nbytes for part in sample.values())
        if self._bytes + size > MAX_ARRAY_BYTES:
            raise DiskFullError(f"more than {MAX_ARRAY_BYTES >> 20} MiB of samples")
        check_room(self._path.parent, self._bytes + size)
        self._samples.append(sample)
        self._bytes += size

    def close(self) -> None:
        if not self._samples:
            return
        begun = self._path.with_name(f".{SAMPLES}")
        arrays: dict[str, Any] = {name: np.stack([s[name] for s in self._samples]) for name in self._samples[0]}
        try:
            with begun.open("wb") as file:
                np.savez(file, **arrays)
            begun.replace(self._path)
        except OSError as error:
            begun.unlink(missing_ok=True)
            raise DiskFullError(f"{self._path}: {error.strerror}") from error


def check_room(folder: Path, size: int) -> None:
    """Raises DiskFullError."""
    free = shutil.disk_usage(folder).free
    if free - size < _LEAST_FREE_BYTES:
        raise DiskFullError(f"{folder}: only {free / 1e6:.0f} MB are free on the disk")
