"""What a report costs a device, in CPU time of its process (user + system, all threads): waiting for the disk or for an
answer is not in it.

A report with five stages of 600 latencies each, six gauges, five counters and an event: encoding, putting it into the
spool (SQLite, synchronous=FULL, a real file), and its share of a batch over HTTP to a collector in another process:
reading it from the spool, marking it as sent, sending, reading the acknowledgement, deleting it. Folding its latencies
into histograms is a line of its own.

    .venv/bin/python tests/benchmarks/device_report.py [--reports 600]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from _timing import host

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeloop.telemetry.delivery.courier import Courier
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import collector_process
from support.reports import latencies_ns, typical_report

BOUND_MS = 2.0
ROUNDS = 5
ALONE = "encoding, put and delivery, one at a time"


def cpu_ms(work: Callable[[], object], count: int) -> float:
    """CPU milliseconds per report of `work`, which does `count`."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1e6 / count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reports", type=int, default=600)
    count = parser.parse_args().reports
    rng = random.Random(1)
    samples = [[latencies_ns(rng, 9.0, 600) for _stage in range(5)] for _ in range(20)]
    template = typical_report()
    rows: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], object], reports: int = count) -> None:
        rows.setdefault(name, []).append(cpu_ms(work, reports))

    def one_round(boot: str, spool: Spool) -> None:
        reports = [replace(template, boot=boot, seq=seq) for seq in range(1, count + 1)]
        bodies: list[bytes] = []
        note("folding 5 x 600 latencies", lambda: [[Histogram.of_ns(s) for s in five] for five in samples], 20)
        note("encoding", lambda: bodies.extend(map(encode_report, reports)))
        note("spool put, SQLite", lambda: put(spool, bodies, boot))
        note("spool put, memory", lambda: put(MemorySpool(), bodies, boot))
        note("delivery, many in a batch", lambda: deliver_all(Courier(spool, transport)))
        courier = Courier(spool, transport)

        def one_by_one() -> None:
            for seq in range(count + 1, count + 1 + count // 4):
                spool.put(encode_report(replace(template, boot=boot, seq=seq)), boot, seq)
                deliver_all(courier)

        note(ALONE, one_by_one, count // 4)
        spool.close()

    with tempfile.TemporaryDirectory() as folder, collector_process(Path(folder) / "telemetry.db") as collector:
        transport = open_transport(collector.url)
        for number in range(ROUNDS):
            boot = f"{number + 1:016x}"
            one_round(boot, Spool(Path(folder) / f"spool-{number}.db"))
        transport.close()
    size = len(encode_report(template))
    print(f"{host()}; {ROUNDS} rounds of {count} reports of {size} bytes; CPU per report, median of rounds")
    for name, values in rows.items():
        print(f"  {name:<44} {statistics.median(values):.3f} ms   ({min(values):.3f} to {max(values):.3f})")
    print(f"a report by itself: {statistics.median(rows[ALONE]):.2f} ms, bound {BOUND_MS:g} ms")


def put(spool: ReportSpool, bodies: Iterable[bytes], boot: str) -> None:
    for seq, body in enumerate(bodies, 1):
        spool.put(body, boot, seq)


def deliver_all(courier: Courier) -> None:
    outcome = courier.deliver()
    if not outcome.done:
        raise SystemExit(f"not delivered: {outcome.error}")


if __name__ == "__main__":
    main()
