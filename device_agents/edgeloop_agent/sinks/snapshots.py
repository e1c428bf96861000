"""`snapshots:DIR?every=10&keep=100&free=200`: pictures with what the model saw drawn over them, as JPEG files.

At most one every so many seconds (10), the last so many of them (100), and none while less than so many MiB (200) are
free on the disk. A thread draws and writes; while it is busy the next picture is left out.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.errors import UsageError
from edgeloop_agent.sinks import SinkSpec, Surroundings

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

EVERY_S, KEEP, FREE_MIB = 10.0, 100, 200.0
_PREFIX, _SUFFIX = "snapshot-", ".jpg"
_QUALITY = 90


class Snapshots:
    """`lines` counts results that were dealt with: those that are not due, too."""

    wants_frame = True
    closed = False

    def __init__(self, spec: SinkSpec, *, where: Surroundings) -> None:
        self.lines = self.lost = 0
        self.problem = ""
        self._folder = Path(spec.path).expanduser()
        self._is_rgb = where.is_rgb
        self._every_s: float = spec.options.get("every", EVERY_S)
        self._keep: int = spec.options.get("keep", KEEP)
        self._free_bytes = spec.options.get("free", FREE_MIB) * 2**20
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files = deque(sorted(p.name for p in self._folder.glob(f"{_PREFIX}*{_SUFFIX}")))
        except OSError as error:
            raise UsageError(f"sink {spec}: {error.strerror}") from error
        self._due_s = 0.0
        self._job: tuple[float, Result, Any] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"sink {spec}", daemon=True)
        self._thread.start()

    def write(self, source: str, time_s: float, result: Result, latency_ms: float, frame: Any = None) -> None:
        now_s = time.monotonic()
        with self._changed:
            if now_s < self._due_s or self._job is not None or self._closing:
                self.lines += 1
                return
            self._due_s = now_s + self._every_s
            self._job = (time_s, result, frame)
            self._changed.notify()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None or self._closing)
                if self._job is None:
                    return
                time_s, result, frame = self._job
            problem = self._save(time_s, result, frame)
            with self._changed:
                self._job = None
                self.problem = problem
                if problem:
                    self.lost += 1
                else:
                    self.lines += 1

    def _save(self, time_s: float, result: Result, frame: Any) -> str:
        """What went wrong, "" where nothing did."""
        import cv2

        from edgeloop_agent.sinks.overlay import draw

        try:
            picture = _as_bgr(frame, is_rgb=self._is_rgb)
            if picture is None:
                return "snapshots: the frames are no pictures"
            if shutil.disk_usage(self._folder).free < self._free_bytes:
                return f"snapshots: less than {self._free_bytes / 2**20:g} MiB are free on the disk"
            data = cv2.imencode(_SUFFIX, draw(picture, result), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            self._put(_name(time_s), data)
        except OSError as error:
            return f"snapshots: {error.strerror}"
        except Exception as error:  # cv2.error above all
            return f"snapshots: {' '.join(str(error).split())[:200]}"
        return ""

    def _put(self, name: str, data: bytes) -> None:
        while len(self._files) >= self._keep:
            (self._folder / self._files[0]).unlink(missing_ok=True)
            self._files.popleft()
        begun = self._folder / f".{name}"
        try:
            begun.write_bytes(data)
            begun.replace(self._folder / name)
        except OSError:
            begun.unlink(missing_ok=True)
            raise
        self._files.append(name)


def _name(time_s: float) -> str:
    """Of the capture, as in the result lines: `snapshot-20261121T115559.123456Z.jpg`."""
    return f"{_PREFIX}{datetime.fromtimestamp(time_s, timezone.utc):%Y%m%dT%H%M%S.%fZ}{_SUFFIX}"


def _as_bgr(frame: Any, *, is_rgb: bool) -> Any:
    """uint8 [H, W, 3] BGR; None for what is no picture."""
    import cv2
    import numpy as np

    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or not frame.size:
        return None
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4):
        return None
    if frame.shape[2] == 4:
        return cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) if is_rgb else frame
