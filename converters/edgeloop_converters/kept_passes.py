"""Passes over the float model that a conversion had finished when it was killed: the same one goes on behind them."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop import paths
from edgeloop.bundle.files import write_atomically
from edgeloop.version import VERSION

if TYPE_CHECKING:
    from edgeloop_converters.passes.report import PassReport

_MOST_SECONDS = 7 * 24 * 3600
"""Nobody comes back for older ones."""
_WORTH_S = 2.0
"""A pass that took less is sooner done again."""


@dataclass(frozen=True)
class Done:
    """One pass: the float model behind it, and its int8 file, where it trained that."""

    tflite: bytes
    report: PassReport
    int8: bytes | None = None


class KeptPasses:
    """In a folder of this host's cache, by key. What is damaged, or cannot be written, is as if it were not there."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or paths.cache_dir() / "passes"
        self._own: set[Path] = set()
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            if time.time() - path.stat().st_mtime > _MOST_SECONDS:
                path.unlink(missing_ok=True)

    def load(self, key: str) -> Done | None:
        path = self._path(key)
        try:
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as found:
                report = _report(json.loads(found["report"].tobytes()))
                int8 = found["int8"].tobytes()
                done = Done(found["tflite"].tobytes(), report, int8 or None)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None
        self._own.add(path)
        return done

    def save(self, key: str, done: Done) -> None:
        if done.report.seconds < _WORTH_S:
            return
        packed = BytesIO()
        told = {field.name: getattr(done.report, field.name) for field in fields(done.report)}
        parts = {"tflite": done.tflite, "int8": done.int8 or b"", "report": json.dumps(told, default=dict).encode()}
        arrays: dict[str, Any] = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
        np.savez(packed, **arrays)
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, packed.getvalue())
        except OSError:
            return
        self._own.add(path)

    def clear(self) -> None:
        """What this conversion kept: it has come to its end."""
        for path in self._own:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{VERSION}-{key[:32]}.npz"


def _report(told: Mapping[str, Any]) -> PassReport:
    from edgeloop_converters.passes.report import PassReport

    return PassReport(**{**told, "history": tuple(told["history"])})
