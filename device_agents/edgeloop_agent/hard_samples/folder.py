"""Hard samples that wait on the device: a file each, what is known of it beside it, and how many there were today.

The worker puts, the supervisor takes. Standard library only. A sample is there when its `.json` is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeloop.telemetry.samples.wire import KINDS, About

LEDGER, SENT = ".ledger", ".sent"


@dataclass(frozen=True)
class WaitingSample:
    """path: of the file; sha256: of what is in it."""

    path: Path
    sha256: str
    size: int
    about: About


class SampleFolder:
    """One model's. For one process that puts, and one that takes; `sent` and `take_sent` from any of its threads."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder
        self._sent_lock = threading.Lock()
        self._clock = clock

    # -- the worker's side

    def kept_today(self) -> int:
        """Also of agents that ran before. Days are UTC, by the device's clock."""
        ledger = _read(self.path / LEDGER)
        count = ledger.get("kept", 0)
        return count if ledger.get("day") == self.day() and isinstance(count, int) else 0

    def waiting_bytes(self) -> int:
        total = 0
        for path in self._files():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def make(self) -> None:
        """For this user alone. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes, about: About) -> None:
        """On the disk when this returns. Raises OSError."""
        digest = hashlib.sha256(data).hexdigest()
        name = f"{int(about.time_s * 1000):014d}-{digest[:12]}"
        kept = self.kept_today() + 1
        _write(self.path / f"{name}.{about.kind}", data)
        _write(self.path / LEDGER, json.dumps({"day": self.day(), "kept": kept}).encode())
        said = {**asdict(about), "sha256": digest, "bytes": len(data)}
        _write(self.path / f"{name}.json", json.dumps(said).encode())

    # -- the supervisor's

    def waiting(self) -> list[WaitingSample]:
        """The oldest first; what is broken is left out."""
        found = []
        for path in sorted(self.path.glob("*.json")):
            if (sample := _waiting(path)) is not None:
                found.append(sample)
        return found

    def remove(self, sample: WaitingSample) -> None:
        """What is known of it goes first, so that a file without it is nobody's."""
        sample.path.with_suffix(".json").unlink(missing_ok=True)
        sample.path.unlink(missing_ok=True)

    def sent(self, sample: WaitingSample) -> None:
        """It is at the collector: the copy here goes, and it is counted until a report said so."""
        with self._sent_lock:
            _write(self.path / SENT, json.dumps({"unreported": self._unreported() + 1}).encode())
        self.remove(sample)

    def take_sent(self) -> int:
        """How many were sent since the last call, also by agents that ran before."""
        with self._sent_lock:
            count = self._unreported()
            if count:
                try:
                    _write(self.path / SENT, json.dumps({"unreported": 0}).encode())
                except OSError:  # on a full disk it is said later, and not twice
                    return 0
            return count

    def _unreported(self) -> int:
        count = _read(self.path / SENT).get("unreported", 0)
        return count if isinstance(count, int) else 0

    def _files(self) -> list[Path]:
        return [path for kind in KINDS for path in self.path.glob(f"*.{kind}")]

    def day(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self._clock()))


def _waiting(path: Path) -> WaitingSample | None:
    said = _read(path)
    try:
        digest, size = str(said.pop("sha256")), int(said.pop("bytes"))
        about = About(**said)
        return WaitingSample(path.with_suffix(f".{about.kind}"), digest, size, about)
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all. Not flushed to the disk: a sample is no report, and a card wears out."""
    begun = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        begun.replace(path)
    except OSError:
        begun.unlink(missing_ok=True)
        raise
