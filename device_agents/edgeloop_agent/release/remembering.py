"""What polls remember from one to the next, in a small file: a bundle that was refused is not fetched again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeloop.bundle.files import write_atomically
from edgeloop_agent.release.deciding import Seen

_FILE = "seen.json"
_KEPT = 32
_MAX_BYTES = 256 << 10


class Memory:
    """`seen` as of now; every change is on the disk before it returns (raises OSError)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self.seen = _read(self._path)

    def refused(self, sha256: str, why: str) -> None:
        self._keep(replace(self.seen, refused=_latest({**self.seen.refused, sha256: why})))

    def tried(self, sha256: str, digest: str) -> None:
        self._keep(replace(self.seen, tried=_latest({**self.seen.tried, sha256: digest})))

    def useless(self, sha256: str) -> None:
        """Of the file that a delta was to lead to."""
        self._keep(replace(self.seen, useless=(*self.seen.useless, sha256)[-_KEPT:]))

    def _keep(self, seen: Seen) -> None:
        self.seen = seen
        said = {"refused": dict(seen.refused), "tried": dict(seen.tried), "useless": list(seen.useless)}
        write_atomically(self._path, json.dumps(said).encode())


def _read(path: Path) -> Seen:
    """Nothing where the file is absent or damaged: what was refused is tried once more."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_MAX_BYTES))
        return Seen(_texts(said["refused"]), _texts(said["tried"]), tuple(map(str, said["useless"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Seen()


def _texts(said: Any) -> Mapping[str, str]:
    return {str(key): str(value) for key, value in said.items()}


def _latest(said: Mapping[str, str]) -> dict[str, str]:
    return dict(list(said.items())[-_KEPT:])
