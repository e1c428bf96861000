"""How many reports a second one collector takes in, what each costs it, and how fast a serial line's bytes are read.

The collector is `edgeloop collect` as its own process; the clients are another one, whose requests were made before.
CPU is the collector's own (user + system), so it means something on a machine that others use, too; "beside it" is that
of its processes for decoding and for the roll-ups, which it starts when many reports come for longer than a second or a
few: reports are sent before the measured ones until that is so.

    .venv/bin/python tests/benchmarks/ingest.py                                # HTTP -> SQLite
    .venv/bin/python tests/benchmarks/ingest.py --store postgresql://...       # HTTP -> a database that is there, empty
    .venv/bin/python tests/benchmarks/ingest.py --serial                       # the serial reader without a store
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cbor2
from _timing import host

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeloop.telemetry.wire.codec import decode_batch, encode_batch, encode_report
from edgeloop.telemetry.wire.framing import KIND_BATCH, FrameReader, encode_request, split_request
from support.reports import small_report, typical_report

KINDS = {"five": "five stages of 600 latencies", "one": "one stage of 1 latency"}
_DIFFERENT = 100
_DEVICES = 50
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def report_bodies(kind: str, count: int) -> Iterator[bytes]:
    """Reports of 50 devices, each with its own key; the histograms of every hundredth are alike."""
    make = typical_report if kind == "five" else small_report
    patterns = [cbor2.loads(encode_report(make(n + 1))) for n in range(_DIFFERENT)]
    for n in range(count):
        body = patterns[n % _DIFFERENT]
        body[1], body[3] = f"pi-{n // 20 % _DEVICES}", n + 1
        body[4] = 1_790_000_000_000 + n * 100
        yield cbor2.dumps(body)


def batches(kind: str, count: int, size: int) -> list[bytes]:
    bodies = list(report_bodies(kind, count))
    return [encode_batch(bodies[start : start + size]) for start in range(0, len(bodies), size)]


# -- HTTP


def run_clients(url: str, kind: str, warm_up: int, count: int, size: int, connections: int) -> None:
    """In a process of its own: says "ready", waits for a line, sends what comes before, says "warm", waits for a line,
    sends everything else, says how long it took."""
    host_name, port = urlsplit(url).hostname or "", urlsplit(url).port
    head = f"POST /v1/reports HTTP/1.1\r\nHost: {host_name}:{port}\r\nContent-Type: application/cbor\r\n"
    requests = [f"{head}Content-Length: {len(b)}\r\n\r\n".encode() + b for b in batches(kind, warm_up + count, size)]
    before = warm_up // size
    failed: list[bytes] = []

    def send(mine: list[bytes]) -> None:
        with socket.create_connection((host_name, port)) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in mine:
                line.sendall(request)
                answer = line.recv(65536)
                if not answer.startswith(b"HTTP/1.1 200"):
                    failed.append(answer)
                    return
                length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                left = length - len(answer.partition(b"\r\n\r\n")[2])
                while left:
                    left -= len(line.recv(left))

    def send_all(mine: list[bytes]) -> None:
        threads = [threading.Thread(target=send, args=(mine[n::connections],)) for n in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    print("ready", flush=True)
    sys.stdin.readline()
    send_all(requests[:before])
    print("warm", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    send_all(requests[before:])
    print(json.dumps({"seconds": time.perf_counter() - began, "failed": [str(f[:200]) for f in failed]}), flush=True)


def measure_http(store_url: str, kind: str, warm_up: int, count: int, size: int, connections: int) -> dict[str, Any]:
    collector = subprocess.Popen(
        [sys.executable, "-m", "edgeloop.cli", "collect", "--json", "--listen", "127.0.0.1:0", "--store", store_url],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert collector.stdout is not None
    clients = None
    try:
        url = json.loads(collector.stdout.readline())["url"]
        options = ["--clients-of", url, "--kind", kind, "--reports", str(count)]
        options += ["--warm-up", str(warm_up)]
        options += ["--per-request", str(size), "--connections", str(connections)]
        clients = subprocess.Popen(
            [sys.executable, __file__, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert clients.stdin is not None
        assert clients.stdout is not None
        assert clients.stdout.readline() == "ready\n"
        _go(clients)
        assert clients.stdout.readline() == "warm\n"
        before, beside_before = cpu_s(collector.pid), sum(map(cpu_s, children_of(collector.pid)))
        _go(clients)
        result = json.loads(clients.stdout.readline())
        cpu = cpu_s(collector.pid) - before
        beside = sum(map(cpu_s, children_of(collector.pid))) - beside_before
        if result["failed"]:
            raise SystemExit(f"a request failed: {result['failed'][0]}")
        return {"per_s": count / result["seconds"], "cpu_us": cpu / count * 1e6, "beside_us": beside / count * 1e6}
    finally:
        collector.terminate()
        if clients is not None:
            clients.kill()
            clients.wait()
        collector.wait(20)


def _go(clients: subprocess.Popen[str]) -> None:
    assert clients.stdin is not None
    clients.stdin.write("go\n")
    clients.stdin.flush()


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


# -- serial


def measure_serial(kind: str, count: int, size: int) -> dict[str, Any]:
    """Reading, framing, CRC and splitting batches, from a socket pair that another process fills as fast as it can."""
    stream = b"".join(encode_request(KIND_BATCH, n, body) for n, body in enumerate(batches(kind, count, size)))
    near, far = socket.socketpair()
    child = os.fork()
    if not child:
        far.sendall(stream)
        os._exit(0)
    far.close()
    reader, reports = FrameReader(), 0
    began, began_cpu = time.perf_counter(), time.process_time()
    while reports < count:
        for frame in reader.feed(os.read(near.fileno(), 65536)):
            reports += len(decode_batch(split_request(frame.payload)[1]).reports)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    os.waitpid(child, 0)
    assert not reader.bad
    return {"per_s": count / seconds, "cpu_us": cpu / count * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URL of an empty store (default: a SQLite file in a temporary folder)")
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="(default: both)")
    parser.add_argument("--reports", type=int, default=40_000)
    parser.add_argument("--warm-up", type=int, default=40_000, help="reports sent before (default: %(default)s)")
    parser.add_argument("--per-request", type=int, default=20)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--serial", action="store_true")
    parser.add_argument("--clients-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kinds, count, size = options.kind or list(KINDS), options.reports, options.per_request
    if options.clients_of:
        run_clients(options.clients_of, kinds[0], options.warm_up, count, size, options.connections)
        return
    load = os.getloadavg()[0]
    sent = f"n = {count} after {options.warm_up}, {size} a batch, {options.connections} connections"
    print(f"{host()}, load {load:.1f}; {sent}")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            if options.serial:
                figures = measure_serial(kind, count, size)
            else:
                url = options.store or f"sqlite:///{folder}/telemetry.db"
                figures = measure_http(url, kind, options.warm_up, count, size, options.connections)
        beside = f", {figures['beside_us']:.1f} beside it" if figures.get("beside_us") else ""
        print(
            f"{KINDS[kind]:32} {figures['per_s']:>9,.0f} reports/s {figures['cpu_us']:>7.1f} us CPU per report{beside}"
        )


if __name__ == "__main__":
    main()
