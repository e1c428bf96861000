"""The ways in, and how a file shows by its content which one it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import UsageError

SUPPORTED = "supported: Keras 3 .keras, Keras 2 .h5, SavedModel folder, .tflite"


@dataclass(frozen=True)
class Frontend:
    """One way in.

    matches: whether a path is of this form, by content; cheap, opens at most the first bytes.
    scan: module with `scan(path, trust_code)`, which raises RefusedError before anything native sees the file.
    native: whether a child process with TensorFlow does the work.
    """

    name: str
    title: str
    matches: Callable[[Path], bool]
    native: bool = True


def _head(path: Path, count: int = 16) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(count)


def _is_keras_zip(path: Path) -> bool:
    return _head(path).startswith(b"PK\x03\x04") and b"config.json" in _head(path, 1 << 16)


FRONTENDS: dict[str, Frontend] = {
    f.name: f
    for f in (
        Frontend("tflite", ".tflite", lambda p: _head(p)[4:8] == b"TFL3", native=False),
        Frontend("keras", "Keras 3 .keras", _is_keras_zip),
        Frontend("h5", "Keras 2 .h5", lambda p: _head(p).startswith(b"\x89HDF\r\n\x1a\n")),
        Frontend("saved_model", "SavedModel folder", lambda p: p.is_dir()),
    )
}


def detect(path: Path) -> str:
    """The name of the frontend for `path`, by content. Raises UsageError naming what is supported."""
    raise UsageError(f"{path}: not a model", hint=SUPPORTED)
