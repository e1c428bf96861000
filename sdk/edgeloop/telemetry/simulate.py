"""Devices that are not there: many of them, reporting to a real collector, to try out a page, an export or a load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.codec import MAX_BATCH, encode_report
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.transports import open_transport

MAX_DEVICES = 100_000
_THREADS = 16
_RETRY_S = 0.5
_SAMPLES = 60  # per report; enough for a p95
_MEDIANS_MS = {"capture": 1.2, "preprocess": 0.4, "invoke": 9.0, "postprocess": 0.05}


@dataclass(frozen=True)
class Simulation:
    """What to simulate. interval_s: between two reports of one device; batch: reports per request of one device."""

    devices: int
    reports: int
    interval_s: float = 1.0
    batch: int = 1
    patience_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= MAX_DEVICES or self.reports < 1:
            raise UsageError(f"simulate takes 1 to {MAX_DEVICES} devices and at least one report each")
        if not 1 <= self.batch <= MAX_BATCH:
            raise UsageError(f"a batch has 1 to {MAX_BATCH} reports")
        if not 0 <= self.interval_s <= 3600:
            raise UsageError("the interval is 0 to 3600 seconds")


@dataclass
class SimulationResult:
    """What came of it; `retries` counts requests that got no acknowledgement and were sent again."""

    acknowledged: int = 0
    rejected: int = 0
    retries: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, acknowledged: int, rejected: int, retries: int) -> None:
        with self._lock:
            self.acknowledged += acknowledged
            self.rejected += rejected
            self.retries += retries


def simulate(url: str, plan: Simulation, on_acknowledged: Callable[[int], None] = lambda _n: None) -> SimulationResult:
    """Send the reports of all devices; returns when all are acknowledged or rejected.

    A collector that is away is tried again for `patience_s`; then DeviceError. UsageError for a wrong URL.
    """
    open_transport(url).close()
    result, failures = SimulationResult(), []
    stopping = threading.Event()

    def work(first: int) -> None:
        try:
            _run_devices(url, plan, range(first, plan.devices, _THREADS), result, stopping, on_acknowledged)
        except Exception as error:
            failures.append(error)
            stopping.set()

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(min(_THREADS, plan.devices))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stopping.set()
    if failures:
        raise failures[0]
    result.seconds = time.monotonic() - began
    return result


def make_report(plan: Simulation, device: int, seq: int, boot: str, time_s: float) -> Report:
    """Report `seq` of one simulated device; device 0 falls back from edgetpu once, every tenth one runs hot."""
    rng = random.Random(f"{plan.seed}/{device}/{seq}")
    hot = device % 10 == 9 and seq % 20 > 10
    slower = rng.uniform(0.9, 1.1) * (1.6 if hot else 1.0) * (1 + device % 7 / 10)
    samples = {
        stage: [rng.lognormvariate(0.0, 0.12) * median * slower for _ in range(_SAMPLES)]
        for stage, median in _MEDIANS_MS.items()
    }
    samples["total"] = [sum(parts) for parts in zip(*samples.values(), strict=True)]
    fell_back = device == 0 and seq == 1
    return Report(
        device=f"sim-{device:03d}",
        boot=boot,
        seq=seq,
        time_s=time_s,
        uptime_s=seq * max(plan.interval_s, 0.001),
        period_s=max(plan.interval_s, 0.001),
        bundle="simulated",
        version=1,
        variant="int8",
        delegate_asked="edgetpu" if device == 0 else "xnnpack",
        delegate_ran="xnnpack",
        delegated_ops=14,
        total_ops=16,
        runtime="simulated",
        counters={"frames": _SAMPLES, "inferences": _SAMPLES},
        latency={stage: Histogram.of_ms(values) for stage, values in samples.items()},
        gauges={"temperature_c": 78.0 if hot else rng.uniform(45, 60), "throttle_flags": 4.0 if hot else 0.0},
        events=(Event("fallback", time_s, "edgetpu is not there, runs on xnnpack"),) if fell_back else (),
    )


def _run_devices(
    url: str, plan: Simulation, devices: range, result: SimulationResult, stopping: threading.Event,
    on_acknowledged: Callable[[int], None],
) -> None:  # fmt: skip
    transport = open_transport(url)
    boots = {device: f"{random.getrandbits(64):016x}" for device in devices}
    began = time.monotonic()
    try:
        for first in range(1, plan.reports + 1, plan.batch):
            seqs = range(first, min(first + plan.batch, plan.reports + 1))
            due_s = began + (seqs[-1] - 1) * plan.interval_s
            if stopping.wait(max(due_s - time.monotonic(), 0)):
                return
            for device in devices:
                now = time.time()
                body = [encode_report(make_report(plan, device, seq, boots[device], now)) for seq in seqs]
                retries, give_up_s = 0, time.monotonic() + plan.patience_s
                while not stopping.is_set():
                    try:
                        ack = transport.send(body)
                        break
                    except DeviceError as error:
                        if time.monotonic() > give_up_s:  # the transport's hint is for devices: they keep their reports
                            raise DeviceError(
                                error.message, hint="start a collector there: edgeloop collect"
                            ) from error
                        retries += 1
                        stopping.wait(_RETRY_S)
                else:
                    return
                acknowledged = sum(last - low + 1 for _boot, low, last in ack.accepted)
                result.add(acknowledged, len(ack.rejected), retries)
                on_acknowledged(acknowledged)
    finally:
        transport.close()
