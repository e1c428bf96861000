"""`video:FILE`: the frames of a video file, through OpenCV; `video:FILE?live=1` plays it at its own speed, as a camera
would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from edgeloop.errors import DataError
from edgeloop_agent.sources.live import EndOfFeedError, Newest
from edgeloop_agent.sources.pictures import Pictures

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame, Source, SourceSpec, Wanted

_MISSING_SHARE, _MISSING_FRAMES = 0.02, 2  # some containers only estimate how many frames they hold
_DEFAULT_FPS = 25.0


def open_video(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Source:
    if not spec.options.get("live"):
        return VideoSource(spec, wanted, skip=skip, loop=loop)
    open_capture(spec).release()  # a file that is no video is said before anything starts
    name = Path(spec.path).name
    return Newest(name, lambda: PlayedFeed(spec, loop=loop), Pictures(name, wanted))


class VideoSource:
    """Frames as uint8 [H, W, 3] BGR; for a contract of kind "tensor" in RGB order. A file that ends much earlier than
    it says gives one DataError there."""

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        self._spec = spec
        self._base = Path(spec.path).name
        self._loop = loop
        self._to_rgb = wanted.input.kind == "tensor"
        self._next = 0
        self._was_said = False
        self._capture = open_capture(spec)
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
            self._check_end()
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

    def _check_end(self) -> None:
        says = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        missing = says - self._next
        if not self._was_said and missing > max(_MISSING_FRAMES, says * _MISSING_SHARE) and says < 1e9:
            self._was_said = True
            raise DataError(f"source {self._spec}: damaged or cut off: it ends after {self._next} of {says:.0f} frames")

    def _start_over(self) -> None:
        # Opened again rather than rewound: seeking fails in many containers without saying so.
        self._capture.release()
        self._capture = open_capture(self._spec)
        self._next = 0


class PlayedFeed:
    """A Feed of a file's frames at the file's own speed."""

    def __init__(self, spec: SourceSpec, *, loop: bool) -> None:
        self._spec = spec
        self._loop = loop
        self._capture = open_capture(spec)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._period_s = 1.0 / (fps if 0.1 <= fps <= 1000 else _DEFAULT_FPS)
        self._due_s = time.monotonic()
        self._read = 0

    def read(self) -> Frame:
        good, frame = self._capture.read()
        if not good and self._loop and self._read:
            self._capture.release()
            self._capture, self._read = open_capture(self._spec), 0
            good, frame = self._capture.read()
        if not good:
            raise EndOfFeedError
        self._read += 1
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = max(self._due_s + self._period_s, time.monotonic() - self._period_s)
        return frame  # type: ignore[no-any-return]

    def close(self) -> None:
        self._capture.release()


def open_capture(spec: SourceSpec) -> cv2.VideoCapture:
    """Raises DataError."""
    capture = cv2.VideoCapture(spec.path)
    if not capture.isOpened():
        raise DataError(f"source {spec}: not a video that OpenCV can read", hint="does ffplay play it?")
    return capture
