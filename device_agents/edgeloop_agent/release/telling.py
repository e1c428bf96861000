"""What a poll by hand met, left in the state folder for the running agent, which says it in its reports. stdlib only.

STATE/release/met.json   a list of details of `release` events; gone when it was taken
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeloop.bundle.files import write_atomically

_FILE = "release/met.json"
_MAX_BYTES, _MAX_DETAILS = 64 << 10, 32


def leave(state: Path, details: Sequence[str]) -> None:
    """Nothing where there is nothing to say; a disk that cannot be written is no reason to fail."""
    if details:
        with suppress(OSError):
            write_atomically(state / _FILE, json.dumps(list(details)).encode())


def take(state: Path) -> list[str]:
    """What was left since the last time."""
    path = state / _FILE
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MAX_BYTES))
        path.unlink()
    except (OSError, ValueError):
        return []
    return [text for text in said if isinstance(text, str)][:_MAX_DETAILS] if isinstance(said, list) else []
