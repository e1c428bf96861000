"""How long questions to a large store take: fills one with five-stage reports, folds it as a collector does, asks.

.venv/bin/python tests/benchmarks/questions.py                               # SQLite, a million reports
.venv/bin/python tests/benchmarks/questions.py --store postgresql://...      # a database that is there, empty
.venv/bin/python tests/benchmarks/questions.py --store ... --keep            # ask again what is there
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cbor2
from _timing import host

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeloop.telemetry.query import Telemetry
from edgeloop.telemetry.reading.local import LocalReader
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rollups import Scope
from edgeloop.telemetry.store.rows import ReportRow
from edgeloop.telemetry.wire.codec import encode_report
from support.reports import BOOT, typical_report

_PATTERNS, _VERSIONS, _STEP = 200, 4, 2000
_DAYS = 5.0
_BEGAN_S = 1_790_000_000.0
_FOLD_STEPS = {Scope.ALL: 2000, Scope.DEVICE: 10_000}  # as `store.upkeep` takes them


def rows(count: int, devices: int) -> Iterator[ReportRow]:
    """Over five days; devices report in turn, versions follow each other."""
    bodies = [cbor2.loads(encode_report(typical_report(n + 1))) for n in range(_PATTERNS)]
    for body in bodies:
        body.pop(18)  # events are rare
    for n in range(count):
        body = bodies[n % _PATTERNS]
        device, seq, version = f"pi-{n % devices:04d}", n // devices + 1, n * _VERSIONS // count + 1
        time_s = _BEGAN_S + n / count * _DAYS * 86_400
        body[1], body[3], body[4], body[8] = device, seq, round(time_s * 1000), version
        model = (body[7], version, body[9], body[11])
        values = (BOOT, seq, time_s, time_s, *model, body[15][1], cbor2.dumps(body))
        yield ReportRow(device, values, body[15][1], ())


def fill(store: Store, count: int, devices: int) -> None:
    began, batch = time.perf_counter(), []
    for row in rows(count, devices):
        batch.append(row)
        if len(batch) == _STEP:
            store.insert_rows(batch, refused=(), received_s=row.values[2])
            batch = []
    if batch:
        store.insert_rows(batch, refused=(), received_s=batch[-1].values[2])
    print(f"{count} reports in after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for scope, step in _FOLD_STEPS.items():
        began_cpu = time.process_time()
        while store.fold(scope, step) == step:
            pass
        cpu_us = (time.process_time() - began_cpu) / count * 1e6
        print(f"folding, {scope.name.lower()}: {cpu_us:.0f} us CPU per report in this process", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URL of an empty store (default: a SQLite file in a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="the store is filled already")
    parser.add_argument("--reports", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(options.store or f"sqlite:///{folder}/telemetry.db")
        if not options.keep:
            fill(store, options.reports, options.devices)
        telemetry = Telemetry(LocalReader(store))
        ragged = {"since": _BEGAN_S + 1234, "until": _BEGAN_S + 4.6 * 86_400}
        questions: dict[str, Callable[[], object]] = {
            "p99 of invoke per model version, all time": lambda: telemetry.latency(by="version").percentile(99),
            "all stages per model version, all time": lambda: store.latency(by=("version",)),
            "p99 of invoke per model version, 4.6 days that begin and end within hours": lambda: telemetry.latency(
                by="version", **ragged
            ).percentile(99),
            f'by="device" over all {options.devices}, p99 of invoke': lambda: telemetry.latency(by="device").percentile(
                99
            ),
            "all stages of one device": lambda: telemetry.latency(by=("version",), device="pi-0007").percentile(99),
        }
        print(f"{host()}, {store.counts().reports} reports of {store.counts().devices} devices")
        for question, ask in questions.items():
            seconds = []
            for _ in range(options.rounds):
                began = time.perf_counter()
                ask()
                seconds.append(time.perf_counter() - began)
            shown = ", ".join(f"{each:.2f}" for each in sorted(seconds))
            print(f"{question:76} {shown} s (load {os.getloadavg()[0]:.1f})", flush=True)
        store.close()


if __name__ == "__main__":
    main()
