"""Files that are either wholly there or not at all, also when the power fails."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeloop.bundle.filekind import file_kind
from edgeloop.errors import UsageError

BUNDLE, TFLITE, PUBLIC_KEY, EXPORT = "bundle", ".tflite model", "public key", "export"
_STARTS: dict[str, Callable[[bytes], bool]] = {
    BUNDLE: lambda head: head.startswith(b"PK\x03\x04") and head[30:43] == b"manifest.json",
    TFLITE: lambda head: head[4:8] == b"TFL3",
    PUBLIC_KEY: lambda head: head.startswith(b"edgeloop-ed25519 "),
    EXPORT: lambda head: head.startswith((b"device,", b"{", b"PAR1")),
}
_HEAD_BYTES = 64


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644, replace: bool = True) -> bool:
    """Write `path` through a temporary file beside it, flushed to the disk. False: `replace` is off and it exists
    already.

    Missing folders are made. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a rename would put a file in the place of /dev/null
        raise OSError(errno.EEXIST, "it is there already and no ordinary file")
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def is_bundle(path: Path) -> bool:
    """By its first bytes; whether it is sound is another question."""
    try:
        with path.open("rb") as file:
            return _STARTS[BUNDLE](file.read(_HEAD_BYTES))
    except OSError:
        return False


def check_can_write(path: Path, what: str) -> None:
    """Before any work: raises UsageError where the file `path` cannot be written. Missing folders would be made."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{what} {path}: it is there already and no ordinary file", hint="choose another name")
    check_can_write_into(path.parent, what)


def check_may_replace(path: Path, kind: str) -> None:
    """Raises UsageError where `path` holds something that is no `kind` (of the constants above): a model or data that
    were named as the output by mistake are not written over. An empty file is nobody's.
    """
    if not path.is_file():  # opening a pipe would wait
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # what cannot be read is said when it is written
        return
    if head and not _STARTS[kind](head):
        found = file_kind(path, head) or f"there already and no {kind}"
        raise UsageError(
            f"output {path} is {found}: it would be lost", hint="choose another name, or remove that file first"
        )


def check_can_write_into(folder: Path, what: str) -> None:
    """The same for any file in `folder`. Tried, not asked: a read-only file system lets root pass every question."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise UsageError(f"{what}: {there}: {error.strerror}", hint="choose a folder that can be written") from error


def sync_directory(path: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
