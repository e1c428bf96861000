"""What is worth saying once and not at every start, remembered in the state folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edgeloop.bundle.files import write_atomically

FILE = "said.json"
_KEPT = 16
_MAX_BYTES = 64 << 10


def first_time(folder: Path, subject: str, text: str) -> str:
    """`text`, where it was not yet said of `subject` in this folder; else "". The last 16 subjects are remembered;
    where nothing can be kept, it is said again."""
    said = _read(folder)
    if not text or said.get(subject) == text:
        return ""
    said = {**{key: value for key, value in said.items() if key != subject}, subject: text}
    with contextlib.suppress(OSError):
        write_atomically(folder / FILE, json.dumps(dict(list(said.items())[-_KEPT:]), indent=1).encode())
    return text


def _read(folder: Path) -> dict[str, str]:
    """Nothing where the file is absent or damaged."""
    try:
        with (folder / FILE).open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
