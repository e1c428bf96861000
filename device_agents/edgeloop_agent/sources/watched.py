"""`folder:DIR?watch=1`: the pictures of a folder, and those that come into it, oldest first, without end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import cv2

from edgeloop.pictures import IMAGE_SUFFIXES, read_picture
from edgeloop_agent.sources.live import LiveSource

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame, SourceSpec, Wanted

LOOK_EVERY_S = 0.2
MAX_WAITING = 100_000


class WatchedFolder(LiveSource):
    """None is dropped. A file counts when its size and time stayed the same from one look to the next: whoever writes
    it is done. Files in folders below are not seen.

    skip: so many of the oldest were read before. Where fewer are there, files were deleted meanwhile: all are read.
    """

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        self._root = spec.path.rstrip("/") or "/"
        self._spec = spec
        self._to_rgb = wanted.input.kind == "tensor"
        self._at_least = wanted.input.decode_size
        self._seen: dict[str, tuple[int, int]] = {}  # name -> (time in ns, size) as last taken
        self._growing: dict[str, tuple[int, int]] = {}
        self._waiting: list[str] = []
        self._look_at_s = 0.0
        self._events: list[tuple[str, str]] = []
        self._is_lost = False
        first = self._scan()
        if skip <= len(first):
            self._seen.update({name: first[name] for name in _oldest_first(first)[:skip]})

    def wait(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not self._waiting:
            now_s = time.monotonic()
            if now_s >= self._look_at_s:
                self._look()
                self._look_at_s = now_s + LOOK_EVERY_S
                continue
            if now_s >= deadline_s:
                return False
            time.sleep(min(self._look_at_s, deadline_s) - now_s)
        return True

    def read(self) -> tuple[Frame, str] | None:
        while not self.wait(LOOK_EVERY_S):
            pass
        name = self._waiting.pop(0)
        self.captured_ns = time.perf_counter_ns()
        frame = read_picture(f"{self._root}/{name}", self._at_least)
        return (cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if self._to_rgb else frame), name

    def take_events(self) -> list[tuple[str, str]]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._waiting = []

    def _look(self) -> None:
        there = self._scan()
        self._seen = {name: at for name, at in self._seen.items() if name in there}
        growing = {name: at for name, at in there.items() if self._seen.get(name) != at}
        done = {name: at for name, at in growing.items() if self._growing.get(name) == at}
        self._growing = {name: at for name, at in growing.items() if name not in done}
        self._seen.update(done)
        self._waiting += _oldest_first(done)[: MAX_WAITING - len(self._waiting)]

    def _scan(self) -> dict[str, tuple[int, int]]:
        found = {}
        try:
            for entry in os.scandir(self._root):
                if entry.name.startswith(".") or not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    continue
                try:
                    if entry.is_file():
                        about = entry.stat()
                        found[entry.name] = (about.st_mtime_ns, about.st_size)
                except OSError:  # it went while we looked
                    continue
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                self._events.append(("source_lost", f"source {self._spec}: {error.strerror}; it is tried again"))
            return {}
        if self._is_lost:
            self._is_lost = False
            self._events.append(("source_back", str(self._spec)))
        return found


def _oldest_first(files: dict[str, tuple[int, int]]) -> list[str]:
    return sorted(files, key=lambda name: (files[name][0], name))
