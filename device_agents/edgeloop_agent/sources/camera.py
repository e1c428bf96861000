"""`camera:0?size=640x480&fps=30&format=mjpg`: a V4L2 camera through OpenCV."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from edgeloop.errors import DataError, DeviceError
from edgeloop_agent.sources.live import Newest
from edgeloop_agent.sources.pictures import Pictures

if TYPE_CHECKING:
    from edgeloop_agent.sources import SourceSpec, Wanted

LOST_AFTER_EMPTY, LOST_AFTER_S = 10, 5.0
"""So many empty frames in a row, or so long without a good one: the camera is gone."""
_EMPTY_PAUSE_S = 0.05


def open_camera(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Newest:
    name = str(spec)
    decode = Pictures(name, wanted, asked=spec.options.get("size"))
    return Newest(name, lambda: CaptureFeed(name, open_v4l2(spec)), decode)


class CaptureFeed:
    """A Feed of a `cv2.VideoCapture` that is open."""

    def __init__(self, name: str, capture: Any, *, lost_after: int = LOST_AFTER_EMPTY) -> None:
        """lost_after: empty frames in a row that mean the end of the connection."""
        self._name = name
        self._capture = capture
        self._lost_after = lost_after
        self._empty = 0
        self._good_s = time.monotonic()

    def read(self) -> Any:
        good, frame = self._capture.read()
        if good and frame is not None and frame.size:
            self._empty, self._good_s = 0, time.monotonic()
            return frame
        self._empty += 1
        since_good_s = time.monotonic() - self._good_s  # the driver's own patience may be 10 s a frame
        if self._empty >= self._lost_after or since_good_s > LOST_AFTER_S or not self._capture.isOpened():
            raise DeviceError(f"source {self._name}: it gives no frames any more")
        time.sleep(_EMPTY_PAUSE_S)
        raise DataError(f"source {self._name}: an empty frame")

    def close(self) -> None:
        self._capture.release()


def open_v4l2(spec: SourceSpec) -> Any:
    """The camera with the options it was asked for. Raises DeviceError."""
    device = spec.path if spec.path.startswith("/") else f"/dev/video{spec.path}"
    if not Path(device).exists():
        raise DeviceError(f"source {spec}: {device} is not there", hint="v4l2-ctl --list-devices shows the cameras")
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise DeviceError(
            f"source {spec}: {device} cannot be opened",
            hint="another program may have it, or the user is not in the group video",
        )
    options = spec.options
    if "format" in options:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options["format"].upper()))
    if "size" in options:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options["size"][0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options["size"][1])
    if "fps" in options:
        capture.set(cv2.CAP_PROP_FPS, options["fps"])
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
