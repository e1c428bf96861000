"""What is particular to one transport; what they share is in tests/conformance."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

import pytest
import serial
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgeloop.errors import ConfigError, DeviceError, EdgeloopError, UsageError
from edgeloop.telemetry.transports import NotAcknowledgedError, open_transport
from edgeloop.telemetry.wire.codec import encode_ack
from support.far_end import HttpLine, SerialLine, SilentTcp, TinyCollector
from support.reports import BOOT, small_body


@pytest.mark.parametrize(
    "url",
    [
        "",
        "collector.local:8080",
        "ftp://host",
        "http://",
        "http://:8080",
        "http://host:port",
        "http://host:99999",
        "http://user:secret@host",
        "http://host?ca=x",
        "http://host?token=1",
        "http://" + "a" * 70 + ".local",
        "https://host?verify=0",
        "serial:",
        "serial://dev/ttyUSB0",
        "serial:ttyUSB0",
        "serial:///dev/ttyUSB0?baud=fast",
        "serial:///dev/ttyUSB0?baud=-9600",
        "serial:///dev/ttyUSB0?baud=١٢٠٠",
        "serial:///dev/ttyUSB0?parity=odd",
        "serial:///dev/tty%00USB0",
        "memory:",
    ],
)
def test_wrong_urls_are_wrong_use_in_one_line(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_transport(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "meant"),
    [("pi.local:8080", "http://pi.local:8080"), ("/dev/ttyS0", "serial:///dev/ttyS0"), ("x", "use one")],
)
def test_a_url_without_its_scheme_is_told_how_to_write_it(url: str, meant: str) -> None:
    with pytest.raises(UsageError, match="no known scheme") as caught:
        open_transport(url)
    assert (caught.value.hint or "").startswith(meant)


def test_opening_does_not_connect() -> None:
    for url in ("http://127.0.0.1:1", "https://127.0.0.1:1/base/", "serial:///nowhere/tty?baud=9600", "HTTP://x"):
        open_transport(url).close()


# -- http


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """A server that gives one fixed answer to everything; its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "blames"),
    [(404, False), (401, False), (503, False), (301, False), (500, True), (400, True), (413, True)],
)
def test_an_http_error_is_named_and_sorted_by_whose_fault_it_is(
    answering: Callable[[int, bytes], str], status: int, blames: bool
) -> None:
    with pytest.raises(NotAcknowledgedError, match=str(status)) as caught:
        open_transport(answering(status, b"<html>")).send([small_body(1)])
    assert caught.value.blames_batch is blames


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"\xa1\x00\x01" * 10, b"x" * 3_000_000])
def test_a_page_that_is_no_collector_is_no_acknowledgement(answering: Callable[[int, bytes], str], body: bytes) -> None:
    with pytest.raises(NotAcknowledgedError, match="no acknowledgement"):
        open_transport(answering(200, body)).send([small_body(1)])


def _drip(connection: socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def _say_nothing(connection: socket) -> None:
    while connection.recv(65536):
        pass


def _hang_up(connection: socket) -> None:
    connection.recv(10)


def _no_http(connection: socket) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + b"\xff" * 70_000)


@pytest.mark.parametrize("script", [_drip, _say_nothing, _hang_up, _no_http])
def test_a_far_end_that_is_no_http_server_costs_the_timeout_at_most(script: Callable[[socket], None]) -> None:
    """Dripping bytes must not hold the publisher for hours: it would, if each byte started the timeout anew."""
    with SilentTcp(script) as far_end, pytest.raises(NotAcknowledgedError) as caught:
        open_transport(far_end.url).send([small_body(1)], timeout_s=0.3)
    assert "\n" not in str(caught.value)


def test_a_connection_is_kept_and_its_silent_end_costs_no_report() -> None:
    line = HttpLine(TinyCollector())
    line.transport.send([small_body(1)])
    line.transport.send([small_body(2)])
    assert len(line._connections) == 1
    line.go_away()
    line.come_back()
    assert line.transport.send([small_body(3)]).accepted == ((BOOT, 3, 3),)
    line.close()


def _certificate(folder: Path, host: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgeloop test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / f"{host}.pem", folder / f"{host}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def test_https_takes_only_the_certificate_it_was_told_and_only_for_its_host(tmp_path: Path) -> None:
    collector = TinyCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = encode_ack(collector.handle(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            return

    right, key = _certificate(tmp_path, "127.0.0.1")
    other, _key = _certificate(tmp_path, "127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(right, key)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        assert open_transport(f"{url}?ca={right}").send([small_body(1)]).accepted == ((BOOT, 1, 1),)
        for refused in (url, f"{url}?ca={other}", f"{url}?ca={right}".replace("127.0.0.1:", "localhost:")):
            with pytest.raises(NotAcknowledgedError, match="certificate was refused"):
                open_transport(refused).send([small_body(2)])
    finally:
        server.shutdown()
        server.server_close()
    assert collector.keys() == [(BOOT, 1)]


def test_a_ca_file_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("not a certificate")
    for ca in (nonsense, tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match="CA file"):
            open_transport(f"https://127.0.0.1:1?ca={ca}")


# -- serial

NOBODY = 65534


def _send_to(path: Path | str) -> None:
    open_transport(f"serial://{path}").send([small_body(1)], timeout_s=0.1)


def test_an_absent_port_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is not there"):
        _send_to(tmp_path / "ttyUSB0")


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    line = SerialLine(TinyCollector(), tmp_path)
    with serial.Serial(str(line.path), exclusive=True), pytest.raises(DeviceError, match="used by another program"):
        line.transport.send([small_body(1)])
    assert line.transport.send([small_body(1)]).accepted, "it is taken when it is free again"
    line.close()


def _said_to_a_user(path: Path) -> str:
    """What sending to `path` raises in a child process that is not root, which may open every port."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            _send_to(path)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def test_a_port_of_another_group_names_the_group() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        Path(folder).chmod(0o755)
        port = Path(folder) / "tty"
        port.touch()
        port.chmod(0)
        said = _said_to_a_user(port)
    assert "may not be opened by this user" in said
    assert "dialout" in said


def test_what_is_no_serial_port_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    for path in (file, tmp_path, "/dev/null"):
        with pytest.raises(EdgeloopError) as caught:
            _send_to(path)
        assert "\n" not in str(caught.value)


def test_nobody_at_the_other_end_is_one_line() -> None:
    master, slave = os.openpty()
    with pytest.raises(DeviceError) as caught:
        open_transport(f"serial://{os.ttyname(slave)}?baud=4000000").send([b"x" * 60_000], timeout_s=0.1)
    assert "\n" not in str(caught.value)
    os.close(master)
    os.close(slave)


def test_late_and_repeated_acknowledgements_are_not_taken_for_another_batchs(tmp_path: Path) -> None:
    line = SerialLine(TinyCollector(), tmp_path)
    line.transport.send([small_body(1)])
    line.written_before_next_answer = b"\x00" + line.answers[0] * 2 + b"console noise \x00\xff\x00"
    assert line.transport.send([small_body(2)]).accepted == ((BOOT, 2, 2),)
    assert line.transport.send([small_body(3)]).accepted == ((BOOT, 3, 3),)
    line.close()


def test_an_echo_of_the_batch_is_no_acknowledgement() -> None:
    master, slave = os.openpty()
    stop = threading.Event()

    def echo() -> None:
        while not stop.is_set():
            os.write(master, os.read(master, 65536))

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    transport = open_transport(f"serial://{os.ttyname(slave)}?baud=4000000")
    with pytest.raises(NotAcknowledgedError, match="no acknowledgement in time"):
        transport.send([small_body(1)], timeout_s=0.2)
    transport.close()
    stop.set()
    os.write(slave, b"\n")
    thread.join()
    os.close(master)
    os.close(slave)


def test_only_the_serial_transport_loads_pyserial() -> None:
    code = (
        "import sys; from edgeloop.telemetry.transports import open_transport;"
        "open_transport('http://127.0.0.1:1'); print('serial' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
