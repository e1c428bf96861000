"""What strangers send: refused, or stored harmlessly; said once; and a device beside them notices nothing."""

from __future__ import annotations

import http.client
import json
import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import cbor2
import pytest

from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.report import Event
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import MAX_BATCH_BYTES, decode_ack, encode_report
from support.collecting import make_report
from support.faults import amount, judge, record
from support.reporter import Reporter

BOOT_BYTES = b"\x01" * 8
GOOD = cbor2.loads(encode_report(make_report(1, device="stranger")))


def rss_bytes() -> int:
    """Of this process, where the collector runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Stranger:
    """Posts bytes to a collector."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self.statuses: list[int] = []

    def post(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request("POST", "/v1/reports", body, {"Content-Type": "application/cbor"})
            response = connection.getresponse()
            answer = response.read()
            self.statuses.append(response.status)
            return response.status, answer
        except (BrokenPipeError, ConnectionResetError):  # it had heard enough
            self.statuses.append(413)
            return 413, b""
        finally:
            connection.close()

    def post_report(self, report: bytes) -> tuple[int, bytes]:
        return self.post(cbor2.dumps({0: 1, 1: [report]}))

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer


@contextmanager
def beside_a_good_device(folder: Path, said: list[str]) -> Iterator[tuple[CollectorHandle, Stranger]]:
    """A collector, and a device that reports to it all the time; what it sent is checked at the end."""
    with start_collector(f"sqlite:///{folder / 'telemetry.db'}", say=said.append) as collector:
        device = Reporter(MemorySpool(), open_transport(collector.url), "good")
        over = threading.Event()

        def report() -> None:
            while not over.wait(0.05):
                device.make(2)
                device.deliver()

        thread = threading.Thread(target=report)
        thread.start()
        try:
            yield collector, Stranger(collector.url)
        finally:
            over.set()
            thread.join()
        device.make(3)
        device.deliver_all()
        mine = [each for each in collector.store.reports() if each.report.device == "good"]
        judge(device.ledger, [(each.report.boot, each.report.seq) for each in mine]).check()
        assert device.wrong(mine) == 0
        assert device.errors == [], "the good device notices nothing"


def changed(key: int, value: object) -> bytes:
    """A good report but for one key."""
    return cbor2.dumps({**GOOD, 2: BOOT_BYTES, key: value})


def nested(depth: int, kind: bytes) -> bytes:
    return kind * depth + b"\x00"


HOSTILE_REPORTS = {
    "1 MB": lambda rng: rng.randbytes(1_000_000),
    "1 MB of text in a field": lambda _rng: changed(7, "x" * 1_000_000),
    "deep arrays": lambda rng: nested(rng.randrange(10, 30_000), b"\x81"),
    "deep maps": lambda rng: nested(rng.randrange(10, 30_000), b"\xa1\x00"),
    "deep tags": lambda rng: nested(rng.randrange(10, 30_000), b"\xc1"),
    "huge array": lambda _rng: b"\x9b" + struct.pack(">Q", 2**62),
    "huge text": lambda _rng: b"\x7b" + struct.pack(">Q", 2**63 - 1) + b"x",
    "huge map in a report": lambda _rng: b"\xa2\x00\x01\x0f\xbb" + struct.pack(">Q", 2**40),
    "endless array": lambda rng: b"\x9f" + b"\x00" * rng.randrange(1, 60_000),
    "a number of 8000 digits": lambda rng: b"\xa1\x00\xc2\x59\x0d\x00" + rng.randbytes(0xD00),
    "the same key twice": lambda _rng: b"\xa2\x00\x01\x00\x01",
    "version 2": lambda _rng: changed(0, 2),
    "version 2 to the 62": lambda _rng: changed(0, 2**62),
    "version none": lambda _rng: changed(0, None),
    "seq 0": lambda _rng: changed(3, 0),
    "time at the end of days": lambda _rng: changed(4, 2**62),
    "counters of a million names": lambda _rng: changed(15, {n: n for n in range(100_000)}),
    "a histogram of nonsense": lambda rng: changed(16, {2: rng.randbytes(60)}),
    "a histogram of 2^63 samples": lambda _rng: changed(16, {2: b"\x00\x01\x01\x00\x01" + b"\xff" * 9 + b"\x7f"}),
    "10,000 events": lambda _rng: changed(18, [["x", 0, "y"]] * 10_000),
    "noise": lambda rng: rng.randbytes(rng.randrange(1, 500)),
    "a flipped good one": lambda rng: flipped(cbor2.dumps(GOOD), rng),
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def test_hostile_reports_are_refused_and_kept_apart(tmp_path: Path) -> None:
    rounds = amount(1, 60)
    rng = random.Random(4)
    said: list[str] = []
    refused = sent = 0
    with beside_a_good_device(tmp_path, said) as (collector, stranger):
        before = rss_bytes()
        for _ in range(rounds):
            for make in HOSTILE_REPORTS.values():
                status, answer = stranger.post_report(make(rng))
                sent += 1
                assert status in (200, 400, 413), status
                refused += status != 200 or bool(decode_ack(answer).rejected)
        assert stranger.get("/healthz")[0] == 200
        grown = rss_bytes() - before
        strangers = [s.report for s in collector.store.reports() if s.report.device != "good"]
        assert collector.store.counts().quarantined <= sent
    record("hostile reports: nesting, lengths, versions, 1 MB, noise", f"{sent} reports",
           f"refused {refused}, the rest valid by chance; memory +{grown / 2**20:.0f} MiB")  # fmt: skip
    assert sent - refused <= 2 * rounds, "only a flip may leave a report a report"
    assert len(strangers) <= sent - refused
    assert grown < 200 * 2**20
    assert len(said) <= 8, said
    assert all(line.isprintable() for line in said)


def test_hostile_batches_are_refused(tmp_path: Path) -> None:
    rounds = amount(2, 100)
    rng = random.Random(5)
    said: list[str] = []
    batches = {
        "too large": lambda: bytes(MAX_BATCH_BYTES + 1),
        "far too large": lambda: bytes(8 * MAX_BATCH_BYTES),
        "empty": lambda: b"",
        "noise": lambda: rng.randbytes(300),
        "version 99": lambda: cbor2.dumps({0: 99, 1: [cbor2.dumps(GOOD)]}),
        "10,000 reports": lambda: cbor2.dumps({0: 1, 1: [b"x"] * 10_000}),
        "deep": lambda: nested(100_000, b"\x81"),
        "huge": lambda: b"\xa2\x00\x01\x01\x9b" + struct.pack(">Q", 2**60),
        "a time of sending of nonsense": lambda: cbor2.dumps({0: 1, 1: [cbor2.dumps(GOOD)], 3: [b"x", 2**70, None]}),
        "no CBOR": lambda: b"POST / HTTP/1.1\r\n\r\n" * 100,
    }
    with beside_a_good_device(tmp_path, said) as (collector, stranger):
        for _ in range(rounds):
            for name, make in batches.items():
                assert stranger.post(make())[0] in (400, 413), name
        assert [s for s in collector.store.reports() if s.report.device != "good"] == []
    record("hostile batches: 8 MB, nesting, lengths, versions", f"{len(stranger.statuses)} batches",
           f"refused {len(stranger.statuses)}")  # fmt: skip
    assert len(said) <= 2, said


TEXTS = (
    "'; DROP TABLE reports; --",
    '" OR 1=1 --',
    "Robert'); DELETE FROM devices WHERE ('a'='a",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}%s%n",
    "../../etc/passwd",
    "=HYPERLINK(0)",
    "a" * 120,
    "\\x00 \\n \\u202e",
    "%27%20UNION%20SELECT%20*",
)


@pytest.mark.parametrize("source", ["the store", "the page"])
def test_sql_and_html_in_every_string_is_text(tmp_path: Path, source: str) -> None:
    said: list[str] = []
    reports = [
        replace(
            make_report(n, device=hostile, boot=f"{n:016x}"), bundle=hostile, variant=hostile, runtime=hostile,
            delegate_asked=hostile, delegate_ran=hostile, counters={hostile: 1, "inferences": 1},
            gauges={hostile: 1.0}, latency={**make_report(1).latency, hostile: make_report(1).latency["invoke"]},
            events=(Event(hostile, make_report(n).time_s, hostile),),
        )
        for n, hostile in enumerate(TEXTS, 1)
    ]  # fmt: skip
    with beside_a_good_device(tmp_path, said) as (collector, stranger):
        ack = open_transport(collector.url).send([encode_report(report) for report in reports])
        assert len(ack.accepted) == len(TEXTS)
        if source == "the store":
            kept = {s.report.device: s.report for s in collector.store.reports() if s.report.device != "good"}
            assert [encode_report(kept[report.device]) for report in reports] == [encode_report(r) for r in reports]
        else:
            status, devices = stranger.get("/v1/devices")
            assert status == 200
            assert set(TEXTS) <= {view["device"] for view in json.loads(devices)["devices"]}
            status, page = stranger.get("/")
            assert b"alert(1)" not in page
            status, metrics = stranger.get("/metrics")
            assert status == 200
            assert all(line.startswith(("edgeloop_", "# ")) for line in metrics.decode().splitlines() if line)
    if source == "the store":
        record("SQL and HTML in every string", f"{len(TEXTS)} texts, 10 fields", "stored as text, read back the same")
    assert not said
