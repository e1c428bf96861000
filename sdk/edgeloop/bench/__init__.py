"""Bench: how fast a model runs here, with everything a number needs to mean something.

One inference is what an application pays: `set_input`, `invoke`, `output`. Several models or delegates are measured
interleaved, chunk by chunk and forth and back, so that a clock that drifts hits all of them alike.

`python -m edgeloop.bench --json MODEL.tflite` is the whole of it in a process of its own; it needs numpy and an
interpreter only, so the host runs just this on a device (`BenchRequest.argv`, `BenchReport.from_json`).
"""

from __future__ import annotations

from edgeloop.bench.measuring import bench_model, bench_models, random_inputs
from edgeloop.bench.program import CASE_MARK, main
from edgeloop.bench.values import DEFAULT_RUNS, WARM_UP_S, BenchReport, BenchRequest, BenchResult

__all__ = [
    "CASE_MARK",
    "DEFAULT_RUNS",
    "WARM_UP_S",
    "BenchReport",
    "BenchRequest",
    "BenchResult",
    "bench_model",
    "bench_models",
    "main",
    "random_inputs",
]
