"""`csi:?size=640x480&fps=30`: the camera on a Raspberry Pi's ribbon cable, through `rpicam-vid` and a pipe (picamera2
and numpy 2 do not mix)."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
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
_SILENT_S = 10.0
_END_S = 0.3  # for a program that was asked to end: with a poll less than the worker waits for its source
_WORDS_BYTES = 2000


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
        self._spoke_s = time.monotonic()
        program = next((found for each in PROGRAMS if (found := shutil.which(each))), None)
        if program is None:
            raise DeviceError(f"source {name}: {PROGRAMS[0]} is not installed", hint="sudo apt install rpicam-apps")
        self._said = b""
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._fd, self._stderr_fd = self._process.stdout.fileno(), self._process.stderr.fileno()
        os.set_blocking(self._stderr_fd, False)
        self._pipes = [self._fd, self._stderr_fd]

    def read(self) -> bytes | None:
        try:
            piece = self._splitter.take()
        except DataError as error:
            raise DataError(f"source {self._name}: {error.message}") from None
        if piece is not None:
            return piece
        ready = select.select(self._pipes, [], [], _POLL_S)[0]
        if self._stderr_fd in ready and not self._listen():
            self._pipes.remove(self._stderr_fd)
        if self._fd not in ready:
            if time.monotonic() - self._spoke_s > _SILENT_S:
                raise DeviceError(f"source {self._name}: no frame for {_SILENT_S:g} s")
            return None
        self._spoke_s = time.monotonic()
        data = os.read(self._fd, _PIECE_BYTES)
        if not data:
            code = self._process.wait()
            raise DeviceError(f"source {self._name}: the camera program ended with code {code}{self._last_words()}")
        self._splitter.feed(data)
        return None

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()

    def _listen(self) -> bool:
        """Empty its stderr, or it blocks there some day: it says a line per frame. The end is kept. False: closed."""
        try:
            while piece := os.read(self._stderr_fd, _PIECE_BYTES):
                self._said = (self._said + piece)[-_WORDS_BYTES:]
        except BlockingIOError:
            return True
        return False

    def _last_words(self) -> str:
        self._listen()
        lines = [x.strip() for x in self._said.decode("utf-8", "replace").splitlines() if x.strip()]
        return f": {lines[-1][:200]}" if lines else ""
