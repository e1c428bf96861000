"""The ways in, and how a file shows by its content which one it takes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import RefusedError, UsageError

SUPPORTED = "supported: Keras 3 .keras, Keras 2 .h5, SavedModel folder, float .tflite"


@dataclass(frozen=True)
class Frontend:
    """One way in. matches: whether a path is of this form, from its first bytes. native: a child process does it."""

    name: str
    title: str
    matches: Callable[[Path], bool]
    native: bool = True


def _head(path: Path, count: int = 16) -> bytes:
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _zip_names(path: Path) -> set[str]:
    if not _head(path).startswith(b"PK\x03\x04"):
        return set()
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return set()


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


FRONTENDS: dict[str, Frontend] = {
    f.name: f
    for f in (
        Frontend("tflite", ".tflite", lambda p: _head(p)[4:8] == b"TFL3", native=False),
        Frontend("h5", "Keras 2 .h5", lambda p: _head(p).startswith(b"\x89HDF\r\n\x1a\n")),
        Frontend("keras", "Keras 3 .keras", lambda p: "config.json" in _zip_names(p)),
        Frontend("saved_model", "SavedModel folder", _is_saved_model),
    )
}

_NOT_YET = {".pt": "PyTorch", ".pth": "PyTorch", ".pt2": "PyTorch", ".onnx": "ONNX"}
_OWN_SUFFIXES = {".tflite", ".h5", ".hdf5", ".keras"}


def detect(path: Path) -> str:
    """The name of the frontend for `path`, by content.

    Raises UsageError for what is no model that can be read, RefusedError for a file that is called like one but is
    damaged.
    """
    for name, frontend in FRONTENDS.items():
        if frontend.matches(path):
            return name
    if path.is_dir():
        raise UsageError(f"{path}: a folder without saved_model.pb is not a model", hint=SUPPORTED)
    if not path.is_file():
        raise UsageError(f"{path}: no such model", hint=SUPPORTED)
    suffix = path.suffix.lower()
    if suffix in _NOT_YET:
        raise UsageError(f"{path}: {_NOT_YET[suffix]} models cannot be read yet", hint=SUPPORTED)
    if suffix in _OWN_SUFFIXES:
        raise RefusedError(f"{path}: not a {suffix} file inside: damaged, or cut short", hint=SUPPORTED)
    raise UsageError(f"{path}: not a model that can be read", hint=SUPPORTED)
