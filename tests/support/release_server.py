"""A loopback HTTP server for a release repository: files with ranges, and everything a hostile or poor far end does."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Misbehave = Callable[["Answer"], None]


@dataclass
class Answer:
    """One request and how to answer it. `start`: of the range that was asked for, 0 without one."""

    path: str
    start: int
    handler: BaseHTTPRequestHandler

    def say(self, status: int, body: bytes = b"", *, length: int | None = -1, **headers: str) -> None:
        """length: of the body as it is claimed; None: not at all."""
        self.handler.send_response(status)
        if length is not None:
            self.handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        else:
            self.handler.send_header("Connection", "close")
            self.handler.close_connection = True
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(body)
        self.handler.wfile.flush()

    def write(self, piece: bytes) -> None:
        self.handler.wfile.write(piece)
        self.handler.wfile.flush()

    def hang_up(self) -> None:
        self.handler.close_connection = True
        self.handler.connection.close()


@dataclass
class ReleaseServer:
    """asked: (path, start of the range) of every request. wire_bytes: both ways, without TCP's own. misbehaving: by
    the start of the file's name."""

    folder: Path
    url: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)
    wire_bytes: int = 0
    misbehaving: dict[str, Misbehave] = field(default_factory=dict)
    knows_ranges: bool = True

    def answer(self, answer: Answer) -> None:
        self.asked.append((answer.path, answer.start))
        name = answer.path.rpartition("/")[2]
        for start, misbehave in self.misbehaving.items():
            if re.match(start, name):
                return misbehave(answer)
        self.as_it_is(answer)
        return None

    def as_it_is(self, answer: Answer) -> None:
        path = self.folder / answer.path.lstrip("/")
        if not path.is_file():
            return answer.say(404, b"no such file")
        content = path.read_bytes()
        if not answer.start or not self.knows_ranges:
            return answer.say(200, content)
        if answer.start >= len(content):
            return answer.say(416)
        said = f"bytes {answer.start}-{len(content) - 1}/{len(content)}"
        return answer.say(206, content[answer.start :], Content_Range=said)

    @property
    def targets_asked(self) -> list[str]:
        return [path.rpartition("/")[2].partition(".")[2] for path, _ in self.asked if path.startswith("/targets/")]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[ReleaseServer]:
    found = ReleaseServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            said = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            with contextlib.suppress(OSError):
                found.answer(Answer(self.path, int(said[1]) if said else 0, self))

        def setup(self) -> None:
            super().setup()
            write, read = self.wfile.write, self.rfile.readline

            def counted(piece: bytes) -> int:
                found.wire_bytes += len(piece)
                return write(piece)

            def counted_line(limit: int = -1) -> bytes:
                line = read(limit)
                found.wire_bytes += len(line)
                return line

            self.wfile.write = counted  # type: ignore[method-assign]
            self.rfile.readline = counted_line  # type: ignore[method-assign,assignment]

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def redirect_to(url: str) -> Misbehave:
    return lambda answer: answer.say(302, Location=url)


def cut_after(size: int, folder: Path, *, times: int = 1) -> Misbehave:
    """The connection breaks after so many bytes of the answer, the first `times` times."""
    left = [times]

    def misbehave(answer: Answer) -> None:
        content = (folder / answer.path.lstrip("/")).read_bytes()
        rest = content[answer.start :]
        status = 206 if answer.start else 200
        said = f"bytes {answer.start}-{len(content) - 1}/{len(content)}"
        if not left[0]:
            return answer.say(status, rest, Content_Range=said)
        left[0] -= 1
        answer.say(status, rest[:size], length=len(rest), Content_Range=said)
        return answer.hang_up()

    return misbehave


def dripping(answer: Answer) -> None:
    """A byte now and then, for ever."""
    answer.say(200, length=1000)
    for _ in range(200):
        answer.write(b"x")
        time.sleep(0.05)


def endless(answer: Answer) -> None:
    """No length, and no end."""
    answer.say(200, length=None)
    for _ in range(10_000):
        answer.write(b"x" * 65536)


def dripping_head(answer: Answer) -> None:
    """Headers that never end, a byte now and then."""
    answer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(200):
        answer.write(b"x")
        time.sleep(0.05)


def silent(answer: Answer) -> None:
    """Not a byte."""
    time.sleep(5)
    answer.hang_up()


def claiming(length: int) -> Misbehave:
    """So many bytes are promised."""
    return lambda answer: answer.say(200, b"x" * 1000, length=length)
