"""Version numbers: one more than the last made on this machine, per bundle name. Safe when several conversions run at
once.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edgeloop import paths
from edgeloop.bundle.files import write_atomically
from edgeloop.bundle.limits import MAX_VERSION, NAME_PATTERN
from edgeloop.errors import UsageError


def next_version(name: str) -> int:
    """Take the next version number of `name`: 1 for the first. A number is given out once, used or not."""
    return claim_version(name, None)


def claim_version(name: str, wanted: int | None) -> int:
    """`wanted` if given, else the next; either way later numbers are higher. Raises UsageError for a bad name or
    number.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a bundle", hint="letters, digits, '.', '_' and '-', at most 64")
    if wanted is not None and not 1 <= wanted <= MAX_VERSION:
        raise UsageError(f"version {wanted} is not between 1 and {MAX_VERSION}")
    folder = paths.state_dir() / "versions"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _claim(folder / name, wanted)
        finally:
            os.close(lock)
    except OSError as error:
        raise UsageError(f"cannot keep version numbers in {folder}: {error.strerror}") from error


def doubt_of_version(name: str, wanted: int | None) -> str | None:
    """A line for people where `wanted` may be the number of another bundle of that name; None where it is not."""
    last = _read(paths.state_dir() / "versions" / name) if wanted is not None and NAME_PATTERN.fullmatch(name) else 0
    if wanted is None or wanted > last:
        return None
    return (
        f"--version {wanted}: the last {name} made here has {last}; two that differ must not share a number on devices"
    )


def _claim(counter: Path, wanted: int | None) -> int:
    last = _read(counter)
    version = last + 1 if wanted is None else wanted
    if version > last:
        write_atomically(counter, f"{version}\n".encode("ascii"))
    return version


def _read(counter: Path) -> int:
    try:
        text = counter.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    except UnicodeDecodeError:
        text = ""
    if not text.strip().isascii() or not text.strip().isdigit():
        raise UsageError(f"the version counter {counter} is damaged", hint="write the last version made into it")
    return int(text)
