"""Checkpoints: one file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import RefusedError, UsageError

Array = npt.NDArray[Any]

FILE = "checkpoint.npz"
_META = "meta"


@dataclass(frozen=True)
class Checkpoint:
    """arrays: by name. meta: what JSON can hold; `identity` in it tells which training it belongs to."""

    arrays: Mapping[str, Array]
    meta: Mapping[str, Any]


class Checkpoints:
    """In `folder`, which is made. identity: of the training; a checkpoint of another one is refused."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._path, self._identity = folder / FILE, identity

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the one before when all is on the disk. Raises UsageError, one line, where it cannot be written."""
        names = list(checkpoint.arrays)
        meta = {**checkpoint.meta, "identity": self._identity, "names": names}
        buffer = io.BytesIO()
        columns: dict[str, Any] = {f"a{i}": checkpoint.arrays[name] for i, name in enumerate(names)}
        columns[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez(buffer, **columns)
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise UsageError(
                f"cannot write checkpoint {self._path}: {error.strerror or error}",
                hint="make room and start again: it goes on from the checkpoint before" if self._path.is_file() else
                "make room, or give another folder",
            ) from error  # fmt: skip

    def load(self) -> Checkpoint | None:
        """The last one; None where there is none. Raises UsageError for another training's, RefusedError for a damaged
        file."""
        if not self._path.is_file():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                meta = json.loads(archive[_META].tobytes())
                arrays = {name: archive[f"a{i}"] for i, name in enumerate(meta["names"])}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RefusedError(f"{self._path} is no checkpoint, or damaged", hint="remove it to start anew") from error
        if meta.get("identity") != self._identity:
            raise UsageError(
                f"{self._path} belongs to another training: its model, data or options differ",
                hint="give another folder, or remove it to start anew",
            )
        return Checkpoint(arrays, meta)
