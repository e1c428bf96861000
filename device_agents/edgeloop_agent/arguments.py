"""What callers of the library may have meant: arguments are checked where they come in, so that what is wrong is said
in their words and not by a library far below.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edgeloop.errors import UsageError


def as_path(value: object, name: str, example: str) -> Path:
    """Raises UsageError."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{name} must be a path, got {_shown(value)}", hint=f"for example {example}")
    return Path(value)


def as_count(value: object, name: str, *, least: int) -> int:
    """A whole number, numpy's too. Raises UsageError."""
    try:
        number = value.__index__() if not isinstance(value, bool) else None  # type: ignore[attr-defined]
    except AttributeError:
        number = None
    if number is None or number < least:
        raise UsageError(f"{name} must be a whole number from {least}, got {_shown(value)}")
    return int(number)


def as_text(value: object, name: str, example: str) -> str:
    """Raises UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text, got {_shown(value)}", hint=f"for example {example}")
    return value


def as_texts(value: object, name: str, example: str) -> tuple[str, ...]:
    """One text or several. Raises UsageError."""
    several = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (None,)
    if not all(isinstance(each, str) and each for each in several):
        raise UsageError(f"{name} must be a list of texts, got {_shown(value)}", hint=f"for example {example}")
    return several


def as_paths(value: object, name: str, example: str) -> tuple[Path, ...]:
    """One path or several. Raises UsageError."""
    is_one = isinstance(value, (str, os.PathLike))
    several = (value,) if is_one else tuple(value) if isinstance(value, Iterable) else (None,)
    return tuple(as_path(each, name, example) for each in several)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
