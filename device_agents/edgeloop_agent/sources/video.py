"""`video:FILE`: the frames of a video file, through OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from edgeloop.errors import DataError
from edgeloop_agent.sources import SourceSpec, Wanted

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame


class VideoSource:
    """Frames as uint8 [H, W, 3] BGR; for a contract of kind "tensor" in RGB order."""

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        self._spec = spec
        self._base = Path(spec.path).name
        self._loop = loop
        self._to_rgb = wanted.input.kind == "tensor"
        self._next = 0
        self._capture = self._open()
        for _ in range(skip):
            if not self._capture.grab():
                if not loop or not self._next:
                    break
                self._start_over()
                self._capture.grab()
            self._next += 1

    def read(self) -> tuple[Frame, str] | None:
        good, frame = self._capture.read()
        if not good:
            if not self._loop or not self._next:  # a file without one readable frame would loop for ever
                return None
            self._start_over()
            good, frame = self._capture.read()
            if not good:
                return None
        name = f"{self._base}#{self._next}"
        self._next += 1
        return (cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if self._to_rgb else frame), name

    def close(self) -> None:
        self._capture.release()

    def _start_over(self) -> None:
        # Opened again rather than rewound: seeking fails in many containers without saying so.
        self._capture.release()
        self._capture = self._open()
        self._next = 0

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self._spec.path)
        if not capture.isOpened():
            raise DataError(f"source {self._spec}: not a video that OpenCV can read")
        return capture
