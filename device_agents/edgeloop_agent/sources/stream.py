"""`rtsp://...`, `http(s)://...`: cameras in the network. Motion JPEG over HTTP is read here, so that a damaged picture
is seen and counted; everything else goes through OpenCV's FFmpeg."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edgeloop.errors import DataError, DeviceError
from edgeloop_agent.sources.camera import CaptureFeed
from edgeloop_agent.sources.jpeg_stream import MAX_PICTURE_BYTES, JpegSplitter
from edgeloop_agent.sources.live import Feed, Newest
from edgeloop_agent.sources.pictures import Pictures

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from edgeloop_agent.sources import SourceSpec, Wanted

TIMEOUT_S = 10.0
POLL_EVERY_S = 0.2
_PIECE_BYTES = 1 << 16
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


def open_stream(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Newest:
    name = str(spec)
    decode = Pictures(name, wanted)
    return Newest(name, lambda: _connect(spec), decode)


def _connect(spec: SourceSpec) -> Feed:
    if spec.scheme != "rtsp":
        feed = MultipartFeed(spec)
        if feed.kind == "multipart":
            return feed
        feed.close()
        if feed.kind == "image":
            return PolledFeed(spec)
    return CaptureFeed(str(spec), _open_ffmpeg(spec), lost_after=1)  # FFmpeg gives an empty frame at the end alone


def _open_ffmpeg(spec: SourceSpec) -> Any:
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: what matters is said once, by us
    timeout_ms = int(TIMEOUT_S * 1e3)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    capture = cv2.VideoCapture(spec.path, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise DeviceError(f"source {spec}: no video comes from there", hint="check address, user and password")
    return capture


class MultipartFeed:
    """A Feed of JPEG bytes from an HTTP answer. `kind`: the first half of its content type."""

    def __init__(self, spec: SourceSpec) -> None:
        """Raises DeviceError."""
        self._name = str(spec)
        self._splitter = JpegSplitter()
        try:
            self._connection, self._answer = _get(spec.path)
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise DeviceError(f"source {self._name}: {reason}") from error
        except Exception as error:  # http.client has kinds of its own
            raise DeviceError(f"source {self._name}: not an HTTP answer ({type(error).__name__})") from error
        status = self._answer.status
        if status != 200:
            self.close()
            hint = "basic authentication goes into the URL: http://USER:PASSWORD@HOST/" if status == 401 else None
            if status in _REDIRECTS:
                hint = "give the address that it redirects to"
            raise DeviceError(f"source {self._name}: the camera answers {status} {self._answer.reason}", hint=hint)
        self.kind = self._answer.headers.get_content_maintype()

    def read_all(self) -> bytes:
        """What is left of the answer, at most MAX_PICTURE_BYTES. Raises DeviceError."""
        try:
            return self._answer.read(MAX_PICTURE_BYTES)
        except Exception as error:
            raise DeviceError(f"source {self._name}: {str(error) or type(error).__name__}") from error

    def read(self) -> bytes | None:
        try:
            picture = self._splitter.take()
        except DataError as error:
            raise DataError(f"source {self._name}: {error.message}") from None
        if picture is not None:
            return picture
        try:
            data = self._answer.read1(_PIECE_BYTES)
        except Exception as error:
            raise DeviceError(f"source {self._name}: {str(error) or type(error).__name__}") from error
        if not data:
            raise DeviceError(f"source {self._name}: the camera ended the stream")
        self._splitter.feed(data)
        return None

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class PolledFeed:
    """A Feed of an address that gives one picture (`http://camera/snapshot.jpg`): asked for again and again."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._due_s = time.monotonic()

    def read(self) -> bytes:
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = time.monotonic() + POLL_EVERY_S
        answer = MultipartFeed(self._spec)
        try:
            return answer.read_all()
        finally:
            answer.close()

    def close(self) -> None:
        pass


def _get(url: str) -> tuple[Any, HTTPResponse]:
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    headers = {"Accept": "multipart/x-mixed-replace, */*"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers=headers)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise
