"""What mutual TLS and a bearer cost per request against plain HTTP, and what a new connection costs; interleaved.

Three collectors run as processes of their own: plain on loopback, and one with TLS for a certificate and for a bearer.
Client and server are on the same machine; CPU is the collector's own (user + system), so it means something on a
machine that others use, too.

    .venv/bin/python tests/benchmarks/tls.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from _timing import host

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeloop.telemetry.collector.security.authority import Authority
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop.telemetry.transports import Transport, open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import make_report
from support.securing import prepare_store

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_WARM_UP = 20


@dataclass
class Side:
    """A way to a collector, and what it took: (wall, collector's CPU) in ms per request, a round each."""

    name: str
    transport: Transport
    process: int
    seq: int = 0
    rounds: list[tuple[float, float]] = field(default_factory=list)

    def send(self, requests: int, reports: int, *, anew: bool) -> None:
        for _ in range(requests):
            bodies = [encode_report(make_report(self.seq + n, device=self.name)) for n in range(1, reports + 1)]
            self.seq += reports
            if anew:
                self.transport.close()
            self.transport.send(bodies, 60.0)

    def round(self, requests: int, reports: int, *, anew: bool) -> None:
        cpu, wall = _cpu_s(self.process), 0.0
        for _ in range(requests):
            bodies = [encode_report(make_report(self.seq + n, device=self.name)) for n in range(1, reports + 1)]
            self.seq += reports
            if anew:
                self.transport.close()
            began = time.perf_counter()
            self.transport.send(bodies, 60.0)
            wall += time.perf_counter() - began
        self.rounds.append((wall / requests * 1e3, (_cpu_s(self.process) - cpu) / requests * 1e3))


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _collector(folder: Path, name: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "edgeloop.cli", "collect", "--json", "--listen", "127.0.0.1:0", "--store",
               f"sqlite:///{folder}/{name}.db", *options]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def _sides(folder: Path, running: list[subprocess.Popen[str]]) -> list[Side]:
    ca = Authority.create(folder / "tls", ["127.0.0.1"]).ca_path
    sides = []
    for name in ("plain", "mutual TLS", "TLS and bearer"):
        if name == "plain":
            process, url = _collector(folder, name)
            transport = open_transport(url)
        else:
            token = prepare_store(f"sqlite:///{folder}/{name}.db")["enroll"]
            process, url = _collector(folder, name, "--tls", str(ca.parent))
            IdentityFolder(folder / name).plant(token, name, bearer="bearer" in name)
            transport = open_transport(f"{url}?ca={ca}", state=folder / name)
        running.append(process)
        sides.append(Side(name, transport, process.pid))
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50, help="per round and side (default 50)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reports", type=int, default=20, help="per request (default 20)")
    args = parser.parse_args()
    running: list[subprocess.Popen[str]] = []
    print(f"{host()}\n{args.rounds} rounds of {args.requests} requests a side, {args.reports} reports each; medians\n")
    try:
        with tempfile.TemporaryDirectory() as text:
            sides = _sides(Path(text), running)
            for anew in (False, True):
                for side in sides:
                    side.rounds.clear()
                    side.send(_WARM_UP, args.reports, anew=False)
                for _ in range(args.rounds):
                    for side in sides:
                        side.round(args.requests, args.reports, anew=anew)
                _show(sides, "a new connection for each request" if anew else "the connection is kept")
    finally:
        for process in running:
            process.kill()
            process.wait()


def _show(sides: list[Side], what: str) -> None:
    plain = sides[0]
    print(f"{what:<36} wall ms    of plain   collector CPU ms   of plain")
    for side in sides:
        wall, cpu = (statistics.median(each[i] for each in side.rounds) for i in (0, 1))
        ratios = [
            statistics.median(mine[i] / theirs[i] for mine, theirs in zip(side.rounds, plain.rounds, strict=True))
            for i in (0, 1)
        ]
        print(f"  {side.name:<34} {wall:7.2f}    {ratios[0]:8.2f}   {cpu:16.2f}   {ratios[1]:8.2f}")


if __name__ == "__main__":
    main()
