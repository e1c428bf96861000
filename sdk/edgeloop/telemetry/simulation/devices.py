"""What devices that are not there would report."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Event, Report

_SAMPLES = 60  # per report; enough for a p95
_MEDIANS_MS = {"capture": 1.2, "preprocess": 0.4, "invoke": 9.0, "postprocess": 0.05}
_COURSE = 64  # latencies come again after so many reports: making them costs more than sending them


def make_report(
    seed: int, device: int, seq: int, boot: str, *, time_s: float, uptime_s: float, period_s: float
) -> Report:
    """Report `seq` of one simulated device; device 0 falls back from edgetpu once, every tenth one runs hot."""
    hot = device % 10 == 9 and seq % 20 > 10
    fell_back = device == 0 and seq == 1
    return Report(
        device=device_name(device),
        boot=boot,
        seq=seq,
        time_s=time_s,
        uptime_s=uptime_s,
        period_s=period_s,
        bundle="simulated",
        version=1,
        variant="int8",
        delegate_asked="edgetpu" if device == 0 else "xnnpack",
        delegate_ran="xnnpack",
        delegated_ops=14,
        total_ops=16,
        runtime="simulated",
        counters={"frames": _SAMPLES, "inferences": _SAMPLES},
        latency=_latency(seed, device % 70, seq % _COURSE, hot),
        gauges={
            "temperature_c": 78.0 if hot else 45.0 + (device * 7 + seq) % 15,
            "throttle_flags": 4.0 if hot else 0.0,
        },
        events=(Event("fallback", time_s, "edgetpu is not there, runs on xnnpack"),) if fell_back else (),
    )


def device_name(device: int) -> str:
    """As in the reports."""
    return f"sim-{device:03d}"


@lru_cache(maxsize=2 * 70 * _COURSE)
def _latency(seed: int, device: int, seq: int, hot: bool) -> Mapping[str, Histogram]:
    rng = random.Random(f"{seed}/{device}/{seq}")
    slower = rng.uniform(0.9, 1.1) * (1.6 if hot else 1.0) * (1 + device % 7 / 10)
    samples = {
        stage: [rng.lognormvariate(0.0, 0.12) * median * slower for _ in range(_SAMPLES)]
        for stage, median in _MEDIANS_MS.items()
    }
    samples["total"] = [sum(parts) for parts in zip(*samples.values(), strict=True)]
    return {stage: Histogram.of_ms(values) for stage, values in samples.items()}
