"""Cameras and sensors that are none: what stands at the far end of the agent's live sources in tests."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

BOUNDARY = "frame"


def picture(i: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """uint8 [H, W, 3] BGR of one gray level, 10 times i; size: (width, height)."""
    return np.full((size[1], size[0], 3), 10 * i % 256, np.uint8)


def jpeg(i: int, size: tuple[int, int] = (64, 48)) -> bytes:
    return cv2.imencode(".jpg", picture(i, size))[1].tobytes()


def video(path: Path, count: int, *, fps: float = 10.0, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for i in range(count):
        writer.write(picture(i))
    writer.release()
    return path


class FakeCapture:
    """What `cv2.VideoCapture` is to the agent. frames: a picture, or None for an empty one; then it is unplugged."""

    def __init__(self, frames: Iterable[np.ndarray | None], period_s: float = 0.002) -> None:
        self._frames = iter(frames)
        self._period_s = period_s
        self._is_open = True
        self.released = 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self._period_s)
        try:
            frame = next(self._frames)
        except StopIteration:
            self._is_open = False
            return False, None
        return frame is not None, frame

    def isOpened(self) -> bool:
        return self._is_open

    def release(self) -> None:
        self.released += 1


class Server:
    """A TCP server on loopback that hands each connection to `talk`, one thread each."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._talk(connection)

    def close(self) -> None:
        self._socket.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def read_head(connection: socket.socket) -> str:
    """A request up to its empty line."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            raise OSError
        data += piece
    return data.decode()


def mjpeg_server(parts: Callable[[], Iterable[bytes]], period_s: float = 0.005) -> Server:
    """parts: the JPEGs of one connection, which is then closed."""

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(
            f"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n\r\n".encode()
        )
        for part in parts():
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
            connection.sendall(head.encode() + part + b"\r\n")
            time.sleep(period_s)

    return Server(talk)


def rtsp_server(transport_stream: bytes, fps: float = 10.0) -> Server:
    """RTSP with MPEG-TS in RTP (payload type 33, RFC 2250) over the same TCP connection; the file once."""
    packets = [transport_stream[i : i + 188 * 7] for i in range(0, len(transport_stream), 188 * 7)]

    def talk(connection: socket.socket) -> None:
        while True:
            head = read_head(connection).splitlines()
            verb = head[0].split()[0]
            sequence = next(x for x in head if x.lower().startswith("cseq"))
            extra, body = "Session: 1\r\n", ""
            if verb == "OPTIONS":
                extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif verb == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
                extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif verb == "SETUP":
                extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            connection.sendall(f"RTSP/1.0 200 OK\r\n{sequence}\r\n{extra}\r\n{body}".encode())
            if verb == "PLAY":
                for i, packet in enumerate(packets):
                    stamp = int(i * 90000 / fps).to_bytes(4, "big")
                    rtp = bytes([0x80, 33]) + (i & 0xFFFF).to_bytes(2, "big") + stamp + b"edge" + packet
                    connection.sendall(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
                    time.sleep(0.01)
                return

    return Server(talk)


RPICAM_VID = """#!{python}
import sys, time
import cv2, numpy as np
given = dict(zip(sys.argv[1::1], sys.argv[2::1]))
width, height, fps = int(given["--width"]), int(given["--height"]), float(given["--framerate"])
assert given["--output"] == "-" and given["--timeout"] == "0" and "--nopreview" in sys.argv
sys.stderr.write("[0:0] INFO Camera camera_manager.cpp: pretended\\n")
for i in range({count}):
    frame = np.full((height, width, 3), 10 * i % 256, np.uint8)
    if given["--codec"] == "mjpeg":
        data = cv2.imencode(".jpg", frame)[1].tobytes()
    else:
        data = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    time.sleep(1 / fps)
sys.stderr.write("ERROR: the camera was unplugged\\n")
sys.exit(255)
"""


def install_rpicam_vid(folder: Path, count: int) -> str:
    """A stand-in that gives so many frames and fails then; the PATH on which it is found."""
    folder.mkdir(exist_ok=True)
    program = folder / "rpicam-vid"
    program.write_text(RPICAM_VID.format(python=sys.executable, count=count))
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


class Sensor:
    """The far end of a serial port: `path` is the port, `say` writes lines."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        tty.setraw(theirs)
        self.path = os.ttyname(theirs)
        self._theirs = theirs
        self._stop = threading.Event()

    def wait_until_opened(self) -> None:
        """What is said before somebody opens the port is thrown away by them."""
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            links = []
            for fd in Path("/proc/self/fd").iterdir():
                with contextlib.suppress(OSError):
                    links.append(str(fd.readlink()))
            if links.count(self.path) > 1:
                time.sleep(0.1)  # opened, but perhaps not emptied yet
                return
            time.sleep(0.01)
        raise AssertionError(f"nobody opened {self.path}")

    def say(self, *lines: str | bytes) -> None:
        for line in lines:
            os.write(self._ours, (line.encode() if isinstance(line, str) else line) + b"\n")

    def say_again_and_again(self, lines: Sequence[str], period_s: float = 0.01) -> None:
        def run() -> None:
            with contextlib.suppress(OSError):
                while not self._stop.is_set():
                    for line in lines:
                        self.say(line)
                        time.sleep(period_s)

        threading.Thread(target=run, daemon=True).start()

    def heard(self, timeout_s: float = 60.0, until: bytes = b"\n") -> bytes:
        """What came from the port, up to `until`."""
        data, deadline_s = b"", time.monotonic() + timeout_s
        while until not in data and time.monotonic() < deadline_s:
            if select.select([self._ours], [], [], 0.1)[0]:
                data += os.read(self._ours, 4096)
        return data

    def unplug(self) -> None:
        self._stop.set()
        for fd in (self._ours, self._theirs):
            with contextlib.suppress(OSError):
                os.close(fd)

    close = unplug
