"""Reports to feed a collector with, collectors as processes, and waiting for what other threads do."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import STAGES, Event, Report
from edgeloop.telemetry.wire.codec import encode_batch, encode_report

BOOT = "0123456789abcdef"
PATIENCE_S = 120.0


def make_report(seq: int = 1, device: str = "pi-1", boot: str = BOOT, **fields: Any) -> Report:
    """A report as an agent makes it; times are whole ms, as on the wire."""
    rng = random.Random(f"{device}/{seq}")
    latency = {stage: Histogram.of_ms([rng.lognormvariate(1.0, 0.2) for _ in range(20)]) for stage in STAGES}
    values: dict[str, Any] = {
        "time_s": 1_750_000_000.0 + seq, "uptime_s": 10.0 * seq, "period_s": 10.0, "bundle": "ic", "version": 3,
        "variant": "int8", "delegate_asked": "edgetpu", "delegate_ran": "xnnpack", "delegated_ops": 14, "total_ops": 16,
        "runtime": "ai-edge-litert 2.3.0", "counters": {"frames": 21, "inferences": 20, "gated": 1}, "latency": latency,
        "gauges": {"temperature_c": 51.5, "throttle_flags": 0.0},
    }  # fmt: skip
    return Report(device=device, boot=boot, seq=seq, **{**values, **fields})


def with_event(report: Report, kind: str = "fallback", detail: str = "edgetpu -> xnnpack") -> Report:
    """The same report with one event."""
    return Report(**{**report.__dict__, "events": (Event(kind, report.time_s, detail),)})


def batch_of(*reports: Report | bytes) -> bytes:
    """An encoded batch; bytes go in as they are."""
    return encode_batch([each if isinstance(each, bytes) else encode_report(each) for each in reports])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as it holds; the patience is only for when it never does."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, f"never happened: {what}"
        time.sleep(0.01)


@dataclass
class CollectorProcess:
    """`edgeloop collect` as its own process."""

    process: subprocess.Popen[str]
    url: str

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@contextmanager
def collector_process(store: Path | str, *options: str, listen: str = "127.0.0.1:0") -> Iterator[CollectorProcess]:
    """Started and ready; killed at the end if it still runs. store: a SQLite file, or a URL."""
    url = store if isinstance(store, str) else f"sqlite:///{store}"
    arguments = ["collect", "--json", "--listen", listen, "--store", url, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeloop.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            process.kill()
            raise AssertionError(f"the collector did not start: {process.communicate()[1]}")
        yield CollectorProcess(process, json.loads(line)["url"])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
