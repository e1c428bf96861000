"""Reports as an agent makes them, for tests of everything they pass through."""

from __future__ import annotations

import random

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import STAGES, Event, Report
from edgeloop.telemetry.wire.codec import encode_report

BOOT = "00112233445566aa"
OTHER_BOOT = "ffeeddccbbaa9988"
_TYPICAL_MS = {"capture": 2.1, "preprocess": 0.8, "invoke": 8.66, "postprocess": 0.05, "total": 11.7}


def latencies_ns(rng: random.Random, typical_ms: float, count: int) -> list[int]:
    """Latencies as boards show them: a narrow body with 10 % spread and 2 % of heavy (Pareto) stalls."""
    return [
        int(typical_ms * 1e6 * rng.lognormvariate(0, 0.1) * (1 if rng.random() >= 0.02 else 1 + rng.paretovariate(1.5)))
        for _ in range(count)
    ]


def typical_report(seq: int = 1, *, boot: str = BOOT, device: str = "pi-kitchen-3", samples: int = 600) -> Report:
    """A minute of a camera at 10 frames/s: five stages, counters, gauges, one event, every field filled."""
    rng = random.Random(seq)
    return Report(
        device=device,
        boot=boot,
        seq=seq,
        time_s=1_790_000_000.125 + 60 * seq,
        uptime_s=5000.5 + 60 * seq,
        period_s=60.0,
        bundle="image-classifier",
        version=12,
        variant="int8",
        delegate_asked="xnnpack",
        delegate_ran="xnnpack",
        delegated_ops=14,
        total_ops=15,
        runtime="ai-edge-litert 2.3.0",
        counters={"frames": samples, "inferences": samples - 2, "gated": 0, "drops": 1, "errors": 1},
        latency={stage: Histogram.of_ns(latencies_ns(rng, _TYPICAL_MS[stage], samples)) for stage in STAGES},
        gauges={
            "temperature_c": 61.3,
            "throttle_flags": 0.0,
            "frequency_mhz": 1500.0,
            "load_1m": 0.77,
            "rss_bytes": 59_801.0 * 1024,
            "memory_available_bytes": 3_050_251.0 * 1024,
        },
        events=(Event("restart", 1_790_000_000.125 + 60 * seq - 3, "worker died: signal 11"),),
    )


def small_report(seq: int, *, boot: str = BOOT, device: str = "pi-1", variant: str = "int8") -> Report:
    """The least a report can be and still count: one frame, one latency."""
    return Report(
        device=device,
        boot=boot,
        seq=seq,
        time_s=1_790_000_000.0 + seq,
        uptime_s=float(seq),
        period_s=1.0,
        variant=variant,
        counters={"frames": 1},
        latency={"total": Histogram.of_ns([8_000_000 + seq])},
    )


def small_body(seq: int, *, boot: str = BOOT, variant: str = "int8") -> bytes:
    """`small_report`, encoded."""
    return encode_report(small_report(seq, boot=boot, variant=variant))
