"""`edgeloop demo`: the whole loop on real input with nothing but the install.

A float digits CNN is converted, evaluated and signed; an agent in a process of its own runs it on the held-out scans
and reports over a serial line (a pty pair) to a collector here, whose figures are shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DeviceError, GoalNotMetError, MissingExtraError, UsageError
from edgeloop.progress import Progress
from edgeloop.telemetry.report import HEADLINE_STAGE
from edgeloop_converters.demo.digits import DigitsSplit, load_split
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.report import write_report

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.server import CollectorHandle
    from edgeloop.telemetry.summary import DeviceSummary
    from edgeloop_converters.result import ConvertResult

DEVICE = "demo-device"
MAX_DROP = 0.01
_INFERENCES = 2000
_RATE_PER_S = 400.0
_REPORT_INTERVAL_S = 1.0
_AGENT_TIMEOUT_S = 60.0
_POLL_S = 0.1

CONTRACT = Contract(
    (InputSpec(name="image", kind="image", size=(8, 8), color="gray", mean=(0.0,), std=(255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found. p50, p95 and p99 are the model's own (stage `invoke`), as the collector has them."""

    conversion: ConvertResult
    summary: DeviceSummary
    device_accuracy: float
    bundle: Path
    report_html: Path
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """`demo --json`."""
        variant = self.conversion.variants[0]
        metrics = variant.quality.metrics
        headline = self.summary.latency[HEADLINE_STAGE]
        return {
            "float_accuracy": metrics.float_,
            "int8_accuracy": metrics.this,
            "agreement": metrics.agreement,
            "device_accuracy": self.device_accuracy,
            "samples": metrics.n,
            "bytes": len(variant.model),
            "float_bytes": self.conversion.report["float"]["bytes"],
            "bundle": str(self.bundle),
            "target": self.conversion.recipe.target,
            "reports": self.summary.reports,
            "inferences": self.summary.counters.get("inferences", 0),
            "delegate": self.summary.last.delegate_ran,
            "p50_ms": headline.percentile(50),
            "p95_ms": headline.percentile(95),
            "p99_ms": headline.percentile(99),
            "latency": {row.pop("stage"): row for row in self.summary.latency_table()},
            "report_html": str(self.report_html),
            "seconds": self.seconds,
        }


def run_demo(
    folder: Path, *, target: str, train: bool, progress: Progress, serve: bool = False
) -> tuple[DemoResult, CollectorHandle | None]:
    """Run the loop in `folder` (made where it is missing). With `serve` the collector is left running and returned.

    Raises UsageError, MissingExtraError (`train` without Keras), DeviceError when the agent fails.
    """
    from edgeloop.telemetry.collector.server import start_collector
    from edgeloop.telemetry.summary import summarize_device

    began_s = time.monotonic()
    _make_folder(folder)
    split = load_split()
    calibration, held_out = _write_data(folder, split)
    model = _train(folder, progress) if train else _packaged_model(folder)
    conversion = _convert(folder, model, calibration, held_out, target, progress)
    bundle = conversion.bundle.save(folder / "digits.bundle")

    with ExitStack() as running:
        ours, theirs = os.openpty()
        running.callback(os.close, theirs)
        port = os.ttyname(theirs)
        (folder / "telemetry.db").unlink(missing_ok=True)
        collector = start_collector(f"sqlite:///{folder / 'telemetry.db'}", serial_ports=[ours])
        stop_collector = running.enter_context(ExitStack())
        stop_collector.callback(collector.stop)
        results = folder / "results.jsonl"
        _run_agent(bundle, held_out, port, results, folder / "agent-state", progress)
        summary = summarize_device(collector.store, DEVICE)
        if summary is None:
            raise DeviceError("the agent ran, but none of its reports arrived over the serial line")
        if serve:
            stop_collector.pop_all()
    report_json, report_html = folder / "report.json", folder / "report.html"
    result = DemoResult(
        conversion, summary, _device_accuracy(results, split), bundle, report_html, time.monotonic() - began_s
    )
    report = {**conversion.full_report(), "demo": result.to_dict()}
    write_report(report_json, report_html, report, device=f"{DEVICE} (this host)", latency=summary.latency)
    return result, collector if serve else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the demo cannot write to {folder}: {error.strerror}", hint="--output DIR") from error


def _write_data(folder: Path, split: DigitsSplit) -> tuple[Path, Path]:
    calibration, held_out = folder / "calibration.npz", folder / "held_out.npz"
    np.savez_compressed(calibration, x=split.train_images, y=split.train_labels)
    np.savez_compressed(held_out, x=split.held_out_images, y=split.held_out_labels)
    return calibration, held_out


def _packaged_model(folder: Path) -> Path:
    path = folder / "digits.tflite"
    path.write_bytes((resources.files(__package__) / "digits.tflite").read_bytes())
    return path


def _train(folder: Path, progress: Progress) -> Path:
    """Run samples/digits/train.py again, in a process of its own, and start from the .keras file it writes."""
    script = Path(__file__).resolve().parents[3] / "samples" / "digits" / "train.py"
    if not script.is_file():
        raise UsageError("--train needs the checkout: samples/digits/train.py is not in the installed package")
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise MissingExtraError("training the demo's model", "keras")
    with progress.step("train the float model"):
        done = subprocess.run(
            [sys.executable, str(script), "--keras-only", "--output", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise DeviceError(f"{script.name} failed: {lines[-1]}")
    return folder / "digits.keras"


def _convert(
    folder: Path, model: Path, calibration: Path, held_out: Path, target: str, progress: Progress
) -> ConvertResult:
    from edgeloop_converters.pipeline import convert

    recipe = Recipe(
        source=str(model),
        target=target,
        data=str(calibration),
        evaluation=str(held_out),
        contract=CONTRACT,
        goals=Goals(max_drop=MAX_DROP),
        name="digits",
    )
    command = f"edgeloop convert {model} --data {calibration} --eval {held_out} --target {target} --max-drop 1pt"
    conversion = convert(recipe, progress=progress, command=command)
    if not conversion.gate.passed:
        raise GoalNotMetError("; ".join(conversion.gate.reasons))
    return conversion


def _run_agent(bundle: Path, data: Path, port: str, results: Path, state: Path, progress: Progress) -> None:
    results.unlink(missing_ok=True)
    command: Sequence[str] = [
        sys.executable, "-m", "edgeloop_agent.cli", "run", "--bundle", str(bundle), "--source", f"npz:{data}",
        "--loop", "--count", str(_INFERENCES), "--rate", f"{_RATE_PER_S:g}", "--sink", f"jsonl:{results}",
        "--telemetry", f"serial://{port}", "--device", DEVICE, "--state", str(state),
        "--report-interval", f"{_REPORT_INTERVAL_S:g}",
    ]  # fmt: skip
    with progress.step("run it on the agent", _INFERENCES) as advance:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline_s, seen = time.monotonic() + _AGENT_TIMEOUT_S, 0
        while process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            lines = results.read_bytes().count(b"\n") if results.is_file() else 0
            advance(lines - seen)
            seen = lines
        if process.poll() is None:
            process.kill()
        _, said = process.communicate()
    if process.returncode != 0:
        lines_said = [line for line in said.splitlines() if line.startswith("edgeloop-agent:")] or said.splitlines()
        raise DeviceError(f"the agent ended with exit code {process.returncode}: {(lines_said or ['no word'])[-1]}")


def _device_accuracy(results: Path, split: DigitsSplit) -> float:
    """Share of the held-out scans that the agent got right, each counted once (the source is looped)."""
    labels = split.held_out_labels
    lines = results.read_text(encoding="utf-8").splitlines()[: len(labels)]
    told = [json.loads(line)["top"][0]["class_id"] for line in lines]
    return float((np.array(told) == labels[: len(told)]).mean())
