"""Memory of the agent's two processes with ResNet8, bytes of a report, and the cost of recording one latency."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _timing import host, shared_data, unpack_cifar

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import STAGES, Report
from edgeloop.telemetry.wire.codec import encode_report


def main() -> None:
    recording()
    report_bytes()
    memory(1)
    memory(2)


def recording() -> None:
    """One latency: an append on the hot path, and its share of the fold that a report does."""
    rng = np.random.default_rng(0)
    values = [int(v) for v in rng.lognormal(11.5, 0.4, 600)]
    costs = []
    for _ in range(200):
        began = time.perf_counter_ns()
        times: list[int] = []
        append = times.append
        for value in values:
            append(value)
        Histogram.of_ns(times)
        costs.append((time.perf_counter_ns() - began) / len(values))
    print(f"recording one latency (append and fold): {statistics.median(costs):.0f} ns, n = 200 x 600, {host()}")


def report_bytes() -> None:
    rng = np.random.default_rng(0)
    medians_ns = (3e5, 4e4, 1.4e6, 2e4, 1.8e6)
    latency = {
        stage: Histogram.of_ns(int(v) for v in rng.lognormal(np.log(median), 0.25, 600))
        for stage, median in zip(STAGES, medians_ns, strict=True)
    }
    report = Report(
        "pi-kitchen-1", "0123456789abcdef", 4711, time.time(), 86400.5, 60.0, "pretrainedResnet", 3, "int8", "xnnpack",
        "xnnpack", 14, 16, "ai-edge-litert 2.3.0", counters={"frames": 600, "inferences": 600, "errors": 0, "drops": 0},
        latency=latency,
        gauges={"temperature_c": 61.3, "throttle_flags": 0, "frequency_mhz": 1500, "load_1m": 0.42, "rss_bytes": 5.5e7},
    )  # fmt: skip
    print(f"a report with five stage histograms of 600 samples each: {len(encode_report(report))} bytes")


def memory(models: int) -> None:
    """PSS of supervisor and workers while they run ResNet8 int8 on JPEG files, in one model or several."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["EDGELOOP_HOME"] = str(folder / "home")
        model = shared_data() / "models/mlperf_tiny/pretrainedResnet_quant.tflite"
        contract = Contract((InputSpec(kind="image", size=(32, 32)),), OutputSpec("classification"))
        variant = VariantDraft("int8", model.read_bytes(), "int8", ("xnnpack",))
        draft = BundleDraft("bench", 1, "generic-x86-64", contract, [variant])
        write_bundle(folder / "b.bundle", draft, load_or_create_signing_key())
        images = unpack_cifar(folder, "test")
        keys = (
            f'bundle = "{folder}/b.bundle"\nsource = "folder:{images}"\nrate = 500\nloop = true\nreport_interval = 1\n'
        )
        tables = "".join(f"[model.m{i}]\n" for i in range(models)) if models > 1 else ""
        shared = f'state = "{folder}/state"\ntelemetry = "http://127.0.0.1:9"\n'
        (folder / "agent.toml").write_text(keys + shared + tables)
        command = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--config", str(folder / "agent.toml")]
        agent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(6)
            workers = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            assert len(workers) == models
            supervisor_mib, worker_mib = pss_mib(agent.pid), sum(pss_mib(int(pid)) for pid in workers)
        finally:
            agent.terminate()
            agent.wait(20)
    total = supervisor_mib + worker_mib
    split = f"supervisor {supervisor_mib:.1f} + workers {worker_mib:.1f} = {total:.1f} MiB"
    print(f"PSS, {models} x ResNet8 int8: {split}, {host()}")


def pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/{pid}/smaps_rollup has no Pss")


if __name__ == "__main__":
    main()
