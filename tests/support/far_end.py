"""The other end of a transport: a collector that answers, and lines to it that can be cut, lose answers and garble.

A collector here is anything with `handle(batch) -> Ack` and `keys()`: the tiny one below, or the real one's core.
"""

from __future__ import annotations

import os
import random
import select
import socket
import socketserver
import threading
import tty
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.transports import Transport, open_transport
from edgeloop.telemetry.transports.memory import MemoryTransport
from edgeloop.telemetry.wire.codec import Ack, Rejected, accepted_ranges, decode_batch, decode_report, encode_ack
from edgeloop.telemetry.wire.framing import KIND_ACK, KIND_BATCH, FrameReader, encode_request, split_request
from support.noise import noisy
from support.port_server import PortServer

Key = tuple[str, int]


class Collector(Protocol):
    def handle(self, batch: bytes) -> Ack: ...

    def keys(self) -> list[Key]:
        """(boot, seq) of every stored report, sorted; one that is stored twice is there twice."""


class TinyCollector:
    """Keeps reports in a dict, as a store with a unique key would; counts how often each arrived."""

    def __init__(self) -> None:
        self.arrivals: Counter[Key] = Counter()

    def handle(self, batch: bytes) -> Ack:
        accepted: list[Key] = []
        rejected: list[Rejected] = []
        for body in decode_batch(batch).reports:
            try:
                report = decode_report(body)
            except DataError as error:
                rejected.append(Rejected.unreadable(body, error.message))
            else:
                accepted.append((report.boot, report.seq))
        self.arrivals.update(accepted)
        return Ack(accepted_ranges(accepted), tuple(rejected))

    def keys(self) -> list[Key]:
        return sorted(self.arrivals)


class Line(ABC):
    """A transport and its far end."""

    transport: Transport

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.lost_answers = 0  # so many batches are stored and not answered
        self.garbled_answers = 0  # so many are stored and answered with nonsense

    @abstractmethod
    def go_away(self) -> None:
        """The far end is gone."""

    @abstractmethod
    def come_back(self) -> None:
        """It is there again."""

    @abstractmethod
    def close(self) -> None:
        """Stop all threads."""

    def take_fault(self) -> str:
        """What is to go wrong with the next answer: "lost", "garbled" or ""."""
        if self.lost_answers:
            self.lost_answers -= 1
            return "lost"
        if self.garbled_answers:
            self.garbled_answers -= 1
            return "garbled"
        return ""


class MemoryLine(Line):
    def __init__(self, collector: Collector) -> None:
        super().__init__(collector)
        self.memory = MemoryTransport(self._handle)
        self.transport = self.memory

    def _handle(self, batch: bytes) -> Ack:
        ack = self.collector.handle(batch)
        fault = self.take_fault()
        if fault == "lost":
            raise DeviceError("the answer was lost")
        return Ack((("nonsense", 1, 2),)) if fault else ack

    def go_away(self) -> None:
        self.memory.handle = None

    def come_back(self) -> None:
        self.memory.handle = self._handle

    def close(self) -> None:
        self.transport.close()


class HttpLine(Line):
    """A real HTTP server of the standard library on loopback."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(collector)
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.come_back()
        self.transport = open_transport(f"http://127.0.0.1:{self._port}")

    def come_back(self) -> None:
        line = self
        connections: list[socket.socket] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                connections.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                assert self.path == "/v1/reports"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    answer = encode_ack(line.collector.handle(body))
                except Exception:
                    self.send_error(500)
                    return
                fault = line.take_fault()
                if fault == "lost":
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/cbor")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(os.urandom(len(answer)) if fault else answer)

            def log_message(self, *_arguments: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_arguments: object) -> None:
                return  # a connection that was cut by the test

        server = Server(("127.0.0.1", self._port), Handler)
        self._port = server.server_address[1]
        self._server, self._connections = server, connections
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def go_away(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.transport.close()
        self.go_away()


class SerialLine(Line):
    """A pty pair: the transport opens a path through pyserial, a thread reads the master. `noise` is the rate of faults
    per byte, both ways."""

    def __init__(self, collector: Collector, folder: Path, *, baud: int = 4_000_000) -> None:
        super().__init__(collector)
        self.noise = 0.0
        self.written_before_next_answer = b""
        self.answers: list[bytes] = []
        self._rng = random.Random(7)
        self.path = folder / "port"
        self.come_back()
        self.transport = open_transport(f"serial://{self.path}?baud={baud}")

    def come_back(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def go_away(self) -> None:
        """As when the cable is pulled: the port is gone."""
        os.write(self._stop_write, b"x")
        self._thread.join()
        for descriptor in (self._master, self._slave, self._stop_read, self._stop_write):
            os.close(descriptor)
        self.path.unlink()

    def close(self) -> None:
        self.transport.close()
        if self.path.is_symlink():
            self.go_away()

    def _serve(self) -> None:
        reader = FrameReader()
        while True:
            ready, _, _ = select.select([self._master, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            data = os.read(self._master, 65536)
            if self.noise:
                data, _hits = noisy(data, self.noise, self._rng)
            for frame in reader.feed(data):
                if frame.kind == KIND_BATCH:
                    self._answer(*split_request(frame.payload))

    def _answer(self, request_id: int, body: bytes) -> None:
        try:
            answer = encode_request(KIND_ACK, request_id, encode_ack(self.collector.handle(body)))
        except Exception:
            return  # as the real listener does: no answer, and it goes on
        self.answers.append(answer)
        fault = self.take_fault()
        if fault == "lost":
            return
        if fault == "garbled":
            answer = answer[:6] + bytes([answer[6] ^ 0x15 or 1]) + answer[7:]
        if self.noise:
            answer, _hits = noisy(answer, self.noise, self._rng)
        os.write(self._master, self.written_before_next_answer + answer)
        self.written_before_next_answer = b""


class NetworkSerialLine(SerialLine):
    """As SerialLine, but the port is handed out over TCP, as `scheme` says."""

    def __init__(self, scheme: str, collector: Collector, folder: Path) -> None:
        self._scheme = scheme
        self._server: PortServer | None = None
        self._tcp_port = 0
        super().__init__(collector, folder)
        self.transport = open_transport(f"{scheme}://127.0.0.1:{self._tcp_port}?baud=4000000")

    def come_back(self) -> None:
        self._server = server = PortServer(self._scheme, self._tcp_port)
        self._tcp_port = server.port
        self._master = server.master
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def go_away(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            os.write(self._stop_write, b"x")
            self._thread.join()
            for descriptor in (self._stop_read, self._stop_write):
                os.close(descriptor)

    def close(self) -> None:
        self.transport.close()
        self.go_away()


class SilentTcp:
    """A TCP port that takes connections and says `script(connection)`: for what no HTTP server would do."""

    def __init__(self, script: object) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    script(self.request)  # type: ignore[operator]

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> SilentTcp:
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
