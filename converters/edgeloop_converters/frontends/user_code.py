"""Errors of the user's own code as one line: which file, which line, what was raised."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_LINE = 300
_PACKAGES = frozenset({"site-packages", "dist-packages"})
"""Also those of a user, and of the system that a virtual environment was made from."""


def where(error: BaseException) -> str:
    """`my_models.py:12: ` for the innermost frame outside Python's and the installed packages' folders, or ''."""
    inside = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    own = Path(__file__).resolve().parents[1]
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if not path.is_file():
            continue
        resolved = path.resolve()
        if any(folder in resolved.parents for folder in (*inside, own)) or not _PACKAGES.isdisjoint(resolved.parts):
            continue
        found = f"{_short(resolved)}:{frame.lineno}: "
    return found


def first_line(error: BaseException) -> str:
    """The message's first line, at most 300 signs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "no further message")[:_LINE]


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
