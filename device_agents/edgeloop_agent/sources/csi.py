"""`csi:?size=640x480&fps=30`: the camera on a Raspberry Pi's ribbon cable, through `rpicam-vid` and a pipe (picamera2
and numpy 2 do not mix)."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop_agent.sources.jpeg_stream import JpegSplitter
from edgeloop_agent.sources.live import Newest, Say
from edgeloop_agent.sources.pictures import Pictures

if TYPE_CHECKING:
    from edgeloop_agent.sources import SourceSpec, Wanted

PROGRAMS = ("rpicam-vid", "libcamera-vid")
"""The second is its name before Debian 12."""
DEFAULT_SIZE, DEFAULT_FPS = (640, 480), 30.0
_STRIDE = 64  # rows of raw frames are filled up to this: other widths would shear
_PIECE_BYTES = 1 << 20
_POLL_S = 0.5
_SILENT_POLLS = 20


def open_csi(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Newest:
    name, size = str(spec), spec.options.get("size", DEFAULT_SIZE)
    is_raw = spec.options.get("format") == "yuv420"
    if is_raw and (size[0] % _STRIDE or size[1] % 2):
        raise UsageError(
            f"source {spec}: yuv420 needs a width that is a multiple of {_STRIDE} and an even height, "
            f"got {size[0]}x{size[1]}",
            hint="format=mjpeg takes any size",
        )
    pictures = Pictures(name, wanted, asked=size)
    command = [
        "--timeout", "0", "--nopreview", "--flush", "--camera", spec.path, "--width", str(size[0]),
        "--height", str(size[1]), "--framerate", f"{spec.options.get('fps', DEFAULT_FPS):g}",
        "--codec", "yuv420" if is_raw else "mjpeg", "--output", "-",
    ]  # fmt: skip
    if not is_raw:
        return Newest(name, lambda: PipeFeed(name, command, JpegSplitter()), pictures)

    def from_yuv(item: Any, say: Say) -> Any:
        import cv2
        import numpy as np

        planes = np.frombuffer(item, np.uint8).reshape(size[1] * 3 // 2, size[0])
        return pictures(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), say)

    return Newest(name, lambda: PipeFeed(name, command, Chunks(size[0] * size[1] * 3 // 2)), from_yuv)


class Chunks:
    """Pieces of a fixed size out of a stream of bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> bytes | None:
        if len(self._buffer) < self._size:
            return None
        piece = bytes(self._buffer[: self._size])
        del self._buffer[: self._size]
        return piece


class PipeFeed:
    """A Feed of what a camera program writes to its stdout. It ends with this object, and when the pipe is gone."""

    def __init__(self, name: str, arguments: list[str], splitter: JpegSplitter | Chunks) -> None:
        """Raises DeviceError."""
        self._name = name
        self._splitter = splitter
        self._silent = 0
        program = next((found for each in PROGRAMS if (found := shutil.which(each))), None)
        if program is None:
            raise DeviceError(f"source {name}: {PROGRAMS[0]} is not installed", hint="sudo apt install rpicam-apps")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  a pipe that nobody empties would block it
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()

    def read(self) -> bytes | None:
        try:
            piece = self._splitter.take()
        except DataError as error:
            raise DataError(f"source {self._name}: {error.message}") from None
        if piece is not None:
            return piece
        if not select.select([self._fd], [], [], _POLL_S)[0]:
            self._silent += 1
            if self._silent >= _SILENT_POLLS:
                raise DeviceError(f"source {self._name}: no frame for {_SILENT_POLLS * _POLL_S:g} s")
            return None
        self._silent = 0
        data = os.read(self._fd, _PIECE_BYTES)
        if not data:
            code = self._process.wait()
            raise DeviceError(f"source {self._name}: the camera program ended with code {code}{self._last_words()}")
        self._splitter.feed(data)
        return None

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._said.close()

    def _last_words(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 2000))
        lines = [x.strip() for x in self._said.read().decode("utf-8", "replace").splitlines() if x.strip()]
        return f": {lines[-1][:200]}" if lines else ""
