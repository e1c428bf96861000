"""What happened on this device, in the state folder: a line of JSON each, in two files of bounded size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from edgeloop.telemetry.report import Event

FILE, OLDER = "events.jsonl", "events.1.jsonl"
MAX_FILE_BYTES = 256 << 10
_LONGEST_DETAIL = 500


class EventLog:
    """`add` never raises: a full or read-only disk is said once, and what it did not take is counted in `lost`.

    When a file is full it becomes the older one, so the last 256 KiB are always there and 512 KiB never exceeded.
    """

    def __init__(
        self, folder: Path, tell: Callable[[str], None], *, run: str = "", max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        """run: which start of the agent the lines are of."""
        self._file, self._older = folder / FILE, folder / OLDER
        self._tell = tell
        self._run = run
        self._max_file_bytes = max_file_bytes
        self._was_told = False
        self.lost = 0

    def add(self, event: Event) -> None:
        line = {"time": round(event.time_s, 3), "kind": event.kind, "detail": event.detail[:_LONGEST_DETAIL]}
        data = json.dumps({**line, "run": self._run}, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            self._append(data)
        except OSError as error:
            self.lost += 1
            if not self._was_told:
                self._was_told = True
                self._tell(f"warning: {self._file}: {error.strerror}; events are not kept (make room, or --state DIR)")

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(data) > self._max_file_bytes:
                os.close(descriptor)
                descriptor = -1
                self._file.replace(self._older)
                return self._append(data)
            written = os.write(descriptor, data)
            if written < len(data):  # a disk that fills up within a line: half a line would spoil the next one
                os.ftruncate(descriptor, size)
                raise OSError(28, os.strerror(28))
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return None


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """All that is there, oldest first; a line that a power cut spoiled is left out. Raises OSError but for absence."""
    for line in chain.from_iterable(_lines(folder / name) for name in (OLDER, FILE)):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("time"), (int, float)):
            yield event


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes()[-2 * MAX_FILE_BYTES :].splitlines()
    except FileNotFoundError:
        return []
