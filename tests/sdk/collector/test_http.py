"""The collector over HTTP: a real uvicorn on loopback, a real SQLite file."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sqlite3
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.http_server import Doors
from edgeloop.telemetry.collector.limits import parse_listen
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES, decode_ack, encode_report
from support.collecting import BOOT, batch_of, make_report, with_event

HOSTILE = '<img src=x onerror=alert(1)>"\\${}'


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def collector(tmp_path: Path, said: list[str]) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", say=said.append) as handle:
        yield handle


def ask(collector: CollectorHandle, method: str, path: str, body: bytes | None = None, **headers: str):  # type: ignore[no-untyped-def]
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection(urlsplit(collector.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(collector: CollectorHandle, body: bytes, **headers: str):  # type: ignore[no-untyped-def]
    return ask(collector, "POST", "/v1/reports", body, **{"Content_Type": "application/cbor", **headers})


def test_a_device_is_acknowledged_over_http(collector: CollectorHandle) -> None:
    transport = open_transport(collector.url)
    ack = transport.send([encode_report(make_report(n)) for n in (1, 2)] + [b"torn"])
    transport.close()
    assert ack.accepted == ((BOOT, 1, 2),)
    assert ack.rejected[0].seq == zlib.crc32(b"torn")
    assert collector.store.counts().reports == 2


def test_many_devices_at_once_are_stored_exactly_once(collector: CollectorHandle) -> None:
    def device(number: int) -> None:
        transport = open_transport(collector.url)
        for seq in range(1, 11):
            for _ in range(2):  # an acknowledgement that got lost
                transport.send([encode_report(make_report(seq, device=f"pi-{number}", latency={}))])
        transport.close()

    threads = [threading.Thread(target=device, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [each.report.key for each in collector.store.reports()]
    assert len(keys) == len(set(keys)) == 80


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no batch", {}, 400),
        (b"", {}, 400),
        (b"x", {"Content_Type": "text/plain"}, 415),
        # Refused on its announcement; a client that sends on may find the connection closed under its hands.
        (b"", {"Content_Length": str(MAX_BATCH_BYTES + 1)}, 413),
        (b"", {"Content_Length": str(10**12)}, 413),
    ],
)
def test_a_request_that_is_no_batch_is_refused(
    collector: CollectorHandle, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, _headers, text = post(collector, body, **headers)
    assert found == status
    assert text.count(b"\n") == 1
    assert collector.store.counts().reports == 0


def test_a_body_without_an_announced_length_is_cut_off_at_the_limit(collector: CollectorHandle) -> None:
    connection = http.client.HTTPConnection(urlsplit(collector.url).netloc, timeout=60)
    endless = (b"x" * 65536 for _ in range(10_000))
    try:
        connection.request("POST", "/v1/reports", endless, {"Content-Type": "application/cbor"}, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = 413
    finally:
        connection.close()
    assert status == 413
    assert ask(collector, "GET", "/healthz")[0] == 200


def test_other_methods_and_paths_are_refused(collector: CollectorHandle) -> None:
    assert ask(collector, "GET", "/v1/reports")[0] == 405
    assert ask(collector, "GET", "/../../etc/passwd")[0] == 404


def test_a_locked_store_is_503_and_the_device_keeps_its_reports(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_store, "__kwdefaults__", {"create": True, "busy_timeout_s": 0.05})
    with start_collector(f"sqlite:///{tmp_path / 'y.db'}", say=said.append) as collector:
        other = sqlite3.connect(tmp_path / "y.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            status, headers, _body = post(collector, batch_of(make_report(1)))
            assert (status, headers["Retry-After"]) == (503, "5")
        assert json.loads(ask(collector, "GET", "/readyz")[2])["store_writable"] is False
        assert ask(collector, "GET", "/readyz")[0] == 503
        assert ask(collector, "GET", "/healthz")[0] == 200
        other.execute("ROLLBACK")
        other.close()
        status, _headers, body = post(collector, batch_of(make_report(1)))
        assert (status, decode_ack(body).accepted) == (200, ((BOOT, 1, 1),))
    assert len(said) == 2, said


def test_health_devices_and_latency_as_json(collector: CollectorHandle) -> None:
    post(collector, batch_of(make_report(1), with_event(make_report(2)), make_report(1, device=HOSTILE)))
    health = json.loads(ask(collector, "GET", "/healthz")[2])
    assert health["ok"] is True
    assert json.loads(ask(collector, "GET", "/readyz")[2]) == {"ready": True, "store_writable": True, "backlog": 0}
    body = json.loads(ask(collector, "GET", "/v1/devices")[2])
    hostile, pi = body["devices"]
    assert hostile["device"] == HOSTILE
    assert body["totals"] == {"devices": 2, "reports": 3, "inferences": 60, "quarantined": 0}
    assert (pi["delegate_ran"], pi["delegated_share"], pi["seq"]) == ("xnnpack", 0.875, 2)
    assert pi["stages"]["invoke"]["n"] == 40
    assert pi["stages"]["invoke"]["p50_ms"] <= pi["stages"]["invoke"]["p95_ms"] <= pi["stages"]["invoke"]["p99_ms"]
    assert pi["last_event"]["kind"] == "fallback"
    assert pi["throttled"] is False
    assert sum(bucket[2] for bucket in pi["histogram"]) == 40
    groups = json.loads(ask(collector, "GET", "/v1/latency?stage=invoke&by=device&device=pi-1")[2])["groups"]
    assert [(g["stage"], g["device"], g["n"]) for g in groups] == [("invoke", "pi-1", 40)]
    for wrong in ("by=nothing", "colour=red", "version=x", "since_s=soon"):
        assert ask(collector, "GET", f"/v1/latency?{wrong}")[0] == 400
    status, _headers, words = ask(collector, "GET", "/v1/latency?stage=invok")
    assert status == 400 and b"no report has a stage 'invok'; there are: capture, preprocess, invoke" in words
    assert ask(collector, "GET", "/v1/latency?stage=capture&device=nobody")[0] == 200


def test_the_page_has_a_strict_policy_and_all_its_files(collector: CollectorHandle) -> None:
    status, headers, body = ask(collector, "GET", "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    page = body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", page), "nothing inline"
    assert "://" not in page, "works without internet"
    for file in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert ask(collector, "GET", f"/{file}")[0] == 200, file


def test_the_page_puts_text_from_devices_into_the_document_as_text_only() -> None:
    folder = resources.files("edgeloop.telemetry.collector") / "page" / "js"
    script = "".join(file.read_text() for file in folder.iterdir())
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
        assert sink not in script


def test_requests_that_name_another_host_are_refused(collector: CollectorHandle) -> None:
    """A web page elsewhere could point a DNS name of its own at 127.0.0.1."""
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""):
        assert ask(collector, "GET", "/v1/devices", Host=host)[0] in (400, 421)
    for host in ("localhost:1", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
        assert ask(collector, "GET", "/healthz", Host=host)[0] == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_addresses_that_others_reach_are_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(RefusedError, match="without TLS") as caught:
        start_collector(f"sqlite:///{tmp_path / 'x.db'}", listen)
    assert "--open" in str(caught.value)


def test_open_lets_others_in(tmp_path: Path) -> None:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", "0.0.0.0:0", doors=Doors(open_to_all=True)) as collector:
        assert collector.url.startswith("http://127.0.0.1:")
        assert ask(collector, "GET", "/healthz", Host="collector.lan")[0] == 200


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1", ":8080", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1"])
def test_a_wrong_listen_address_is_wrong_use(listen: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_listen(listen)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DeviceError, match="in use") as caught:
        start_collector(f"sqlite:///{tmp_path / 'x.db'}", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "free port" in str(caught.value)


def test_a_stopped_collector_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    collector = start_collector(f"sqlite:///{tmp_path / 'x.db'}")
    keeps_open = socket.create_connection(urlsplit(collector.url).netloc.split(":"))
    collector.stop()
    collector.stop()
    keeps_open.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(OSError):
        socket.create_connection(urlsplit(collector.url).netloc.split(":"))


def test_a_request_that_is_cut_off_halfway_is_no_defect(collector: CollectorHandle, said: list[str]) -> None:
    parts = urlsplit(collector.url)
    head = b"POST /v1/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    for _ in range(3):
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as line:
            line.sendall(head)
    assert ask(collector, "GET", "/healthz")[0] == 200
    collector.stop()
    assert not [line for line in said if "failed" in line]


@pytest.fixture(params=["httptools", "h11"])
def any_parser(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A collector's address, over each of the parsers that it takes."""
    if request.param == "h11":
        monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
    else:
        pytest.importorskip("httptools")
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as handle:
        bases = {each.__module__ for each in handle.http._server.config.http_protocol_class.__mro__}
        assert f"uvicorn.protocols.http.{request.param}_impl" in bases
        yield handle.url


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
        b"POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
    ],
    ids=["address", "header", "trailer"],
)
def test_what_has_no_end_is_cut_off_before_it_takes_memory(any_parser: str, begin: bytes) -> None:
    parts = urlsplit(any_parser)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as line:
        sent = len(begin)
        line.sendall(begin)
        try:
            while sent < 1 << 20:
                sent += line.send(b"a" * 4096)
                time.sleep(0.002)
        except OSError:
            pass
        else:
            pytest.fail("a megabyte of it was taken")
    assert ask_url(any_parser, "/healthz") == 200


def test_reports_come_in_over_each_parser(any_parser: str) -> None:
    transport = open_transport(any_parser)
    for first in (1, 4):
        ack = transport.send([encode_report(make_report(n)) for n in range(first, first + 3)])
        assert ack.accepted == ((BOOT, first, first + 2),)
    transport.close()
    parts = urlsplit(any_parser)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as line:  # two at once, in odd pieces
        request = f"GET /healthz HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
        for piece in (request[:9], request[9:] + request[:20], request[20:]):
            line.sendall(piece)
            time.sleep(0.05)
        answer = b""
        while answer.count(b"200 OK") < 2:
            more = line.recv(65536)
            assert more, answer
            answer += more


def ask_url(url: str, path: str) -> int:
    with urllib.request.urlopen(f"{url}{path}", timeout=60) as answer:
        return int(answer.status)
