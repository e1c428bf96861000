"""One device's reports to a collector by each way, interleaved: reports per second, and whose CPU they cost.

    .venv/bin/python tests/benchmarks/transports.py [--rounds 15] [--batches 8]

The collector is a process of its own, on SQLite; the broker a real mosquitto; the serial line a pty pair; the stick a
folder on this disk, whose import is counted as the collector. A way's ratio is over its rounds to HTTP's of the same.
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
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._timing import host
from edgeloop.telemetry.collector.carried_import import CarriedImport
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.delivery.carrying import Carrier, CarryingCourier
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.simulation.simulate import Simulation, simulate
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.certificates import Certificates
from support.mosquitto import Mosquitto
from support.reports import typical_report

DEVICE = "bench"
COLLECTOR = """
import json, sys, time
from edgeloop.telemetry.collector import start_collector
url, line, *brokers = sys.argv[1:]
with start_collector(url, serial_ports=[int(line)], brokers=brokers) as collector:
    while not all(getattr(each, "is_connected", True) for each in collector.listeners):
        time.sleep(0.01)
    print(json.dumps(collector.url), flush=True)
    sys.stdin.read()
"""


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Carried:
    """The stick's way: written, taken in, and settled."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._spool = folder, MemorySpool()
        transport = open_transport(f"file://{folder}", device=DEVICE)
        assert isinstance(transport, Carrier)
        self._courier = CarryingCourier(self._spool, transport)
        self._store = open_store(f"sqlite:///{folder.parent / 'carried.db'}")
        self._import = CarriedImport(Ingest(self._store).handle)
        self.import_cpu_s = 0.0

    def send(self, batch: Sequence[Report]) -> None:
        for report in batch:
            self._spool.put(encode_report(report), report.boot, report.seq)
        self._courier.deliver()
        began = time.process_time()
        self._import.run(self._folder)
        self.import_cpu_s += time.process_time() - began
        assert self._courier.deliver().left == 0


class Sent:
    """Any other way."""

    import_cpu_s = 0.0

    def __init__(self, url: str) -> None:
        self._transport = open_transport(url, device=DEVICE)

    def send(self, batch: Sequence[Report]) -> None:
        assert not self._transport.send([encode_report(report) for report in batch]).rejected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=8, help="of each way in a round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "private").mkdir()
        broker, private = Mosquitto(folder), Mosquitto(folder / "private", Certificates(folder / "private"))
        master, slave = os.openpty()
        store = f"sqlite:///{folder / 'telemetry.db'}"
        command = [sys.executable, "-c", COLLECTOR, store, str(master), broker.url, private.url]
        collector = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[master]
        )
        try:
            assert collector.stdout is not None
            url = json.loads(collector.stdout.readline())
            ways: dict[str, Sent | Carried] = {
                "http": Sent(url),
                "mqtt": Sent(broker.url),
                "mqtts": Sent(private.url),
                "serial pty": Sent(f"serial://{os.ttyname(slave)}?baud=4000000"),
                "file": Carried(folder / "stick"),
            }
            for size in (1, 20):
                measure(ways, size, args.rounds, args.batches, collector.pid)
            fleet({"http": url, "mqtt": broker.url}, collector.pid)
        finally:
            collector.kill()
            collector.wait()
            broker.stop()
            private.stop()


def measure(ways: Mapping[str, Sent | Carried], size: int, rounds: int, batches: int, collector: int) -> None:
    """One table: batches of `size` reports."""
    boot, seq = os.urandom(8).hex(), 0
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    device_cpu_s, collector_cpu_s = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            made = []
            for _ in range(batches):
                made.append([typical_report(seq + n, boot=boot, device=DEVICE) for n in range(1, size + 1)])
                seq += size
            imported, theirs, ours, began = way.import_cpu_s, cpu_s(collector), time.process_time(), time.perf_counter()
            for batch in made:
                way.send(batch)
            took = time.perf_counter() - began
            imported = way.import_cpu_s - imported
            if round_number:  # the first one connects
                seconds[name].append(took)
                device_cpu_s[name] += time.process_time() - ours - imported
                collector_cpu_s[name] += cpu_s(collector) - theirs + imported
    n = rounds * batches * size
    print(f"\nbatches of {size}, n = {n} reports of {len(encode_report(typical_report()))} B each way, {host()}")
    print(f"{'way':<12}{'reports/s':>12}{'ratio to http':>15}{'device us':>12}{'collector us':>14}   (CPU per report)")
    for name, took in seconds.items():
        rate = batches * size / statistics.median(took)
        ratio = statistics.median(http / this for http, this in zip(seconds["http"], took, strict=True))
        device, host_side = device_cpu_s[name] / n * 1e6, collector_cpu_s[name] / n * 1e6
        print(f"{name:<12}{rate:>12,.0f}{ratio:>15.2f}{device:>12,.0f}{host_side:>14,.0f}")


def fleet(urls: Mapping[str, str], collector: int, rounds: int = 5) -> None:
    """16 devices at once, as fast as they are acknowledged, in batches of 20."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    cpu_us: dict[str, list[float]] = {name: [] for name in urls}
    for seed in range(rounds):
        for name, url in urls.items():
            before = cpu_s(collector)
            done = simulate(url, Simulation(devices=16, reports=200, interval_s=0.0, batch=20, seed=seed))
            rates[name].append(done.acknowledged / done.seconds)
            cpu_us[name].append((cpu_s(collector) - before) / done.acknowledged * 1e6)
    print(f"\n16 devices, batches of 20, n = {rounds} x 3200 reports each way")
    for name in urls:
        ratio = statistics.median(this / http for this, http in zip(rates[name], rates["http"], strict=True))
        print(
            f"{name:<12}{statistics.median(rates[name]):>12,.0f}{ratio:>15.2f}{'':>12}{statistics.median(cpu_us[name]):>14,.0f}"
        )


if __name__ == "__main__":
    main()
