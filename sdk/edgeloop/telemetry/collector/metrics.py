"""Prometheus' text format 0.0.4: what this collector took in since it started, what is in its store, and the last state
of every device. Of several collectors over one store the first is each one's own, to be summed; the rest is the same
on all of them.

Latency is a classic histogram whose bounds are every eighth bound of ours (a factor of sqrt(2)), so that no sample
has to be split between two of them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from edgeloop.telemetry.histogram import BUCKETS_PER_OCTAVE, Histogram
from edgeloop.telemetry.overview import model_of
from edgeloop.telemetry.report import COUNTERS, STAGES, Report, alerts_of
from edgeloop.telemetry.wire.histogram_arrays import RunningMerge
from edgeloop.telemetry.wire.latency import wires_of
from edgeloop.telemetry.wire.together import LatencySums

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_MODELS = 200
"""Different (bundle, version, variant, delegate) that get series of their own; more are counted as left out."""
MAX_ALERTS = 8
"""Of one model; any name can be sent."""
MAX_DEVICES = 1000
"""Devices with gauges of their own."""

_MODEL_LABELS = ("bundle", "version", "variant", "delegate")
_HALF_OCTAVE = BUCKETS_PER_OCTAVE // 2
_FIRST_BOUND, _LAST_BOUND = 26, 70  # 2**(k / 2) ns: 8.2 us to 34 s
_BOUNDS = range(_FIRST_BOUND, _LAST_BOUND + 1)
_BOUND_INDICES = [bound * _HALF_OCTAVE - 1 for bound in _BOUNDS]  # the last bucket of ours below each bound
_MODELS_OF_A_DEVICE = 16

Model = tuple[str, str, str, str]
Alert = tuple[str, str, str, float]
"""(device, bundle, name, seconds that it has been so)."""


@dataclass
class IngestMetrics:
    """Counts of one collector process; they start at zero with it, as Prometheus expects. Safe between threads."""

    _counts: Counter[str] = field(default_factory=Counter, repr=False)
    _models: dict[Model, Counter[str]] = field(default_factory=dict, repr=False)
    _latency: dict[tuple[Model, str], RunningMerge] = field(default_factory=dict, repr=False)
    _alerts: dict[str, tuple[str, dict[str, dict[str, float]]]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, name: str, more: int = 1) -> None:
        """name: one of "batches", "batches_refused", "commits_failed", "reports_stored", ... (`_PROCESS_COUNTERS`)."""
        with self._lock:
            self._counts[name] += more

    def observe(self, reports: Sequence[Report], latency: LatencySums | None = None) -> None:
        """Add reports that were stored for the first time. latency: that of all of them, where it was summed up."""
        with self._lock:
            for report in reports:
                self._note_alerts(report)
                model = _series_of(model_of(report))
                if model not in self._models:
                    if len(self._models) >= MAX_MODELS:
                        self._counts["reports_without_series"] += 1
                        continue
                    self._models[model] = Counter()
                counts = self._models[model]
                for name, value in report.counters.items():
                    if name in COUNTERS:
                        counts[name] += value
                if latency is None:
                    for stage, wire in wires_of(report.latency).items():
                        if (running := self._running(model, stage)) is not None:
                            running.add(wire)
            for (of, stage), histogram in (latency or {}).items():
                if (running := self._running(_series_of(of), stage)) is not None:
                    running.include(histogram)

    def _running(self, model: Model, stage: str) -> RunningMerge | None:
        """None for what has no series: any name of a stage can be sent, and each would cost 46 of them."""
        if stage not in STAGES or model not in self._models:
            return None
        running = self._latency.get((model, stage))
        if running is None:
            running = self._latency[model, stage] = RunningMerge()
        return running

    def _note_alerts(self, report: Report) -> None:
        """The last of each bundle in the device's last boot: a device may run several models."""
        boot, bundles = self._alerts.get(report.device, ("", {}))
        if boot != report.boot:
            if report.device not in self._alerts and len(self._alerts) >= MAX_DEVICES:
                return
            bundles = {}
        if report.bundle not in bundles and len(bundles) >= _MODELS_OF_A_DEVICE:
            return
        bundles[report.bundle] = dict(islice(alerts_of(report).items(), MAX_ALERTS))
        self._alerts[report.device] = report.boot, bundles

    def alerts(self) -> list[Alert]:
        """As the last reports say."""
        with self._lock:
            return [
                (device, bundle, name, lasted_s)
                for device, (_boot, bundles) in self._alerts.items()
                for bundle, alerts in bundles.items()
                for name, lasted_s in alerts.items()
            ]

    def snapshot(self) -> tuple[dict[str, int], dict[Model, dict[str, int]], dict[tuple[Model, str], Histogram]]:
        """(process counts, counters by model, latency by model and stage) as they are now."""
        with self._lock:
            models = {model: dict(counts) for model, counts in self._models.items()}
            return dict(self._counts), models, {key: running.total() for key, running in self._latency.items()}


_PROCESS_COUNTERS = {
    "batches": "Batches acknowledged by this process.",
    "batches_refused": "Batches that could not be read as a whole.",
    "commits_failed": "Batches not acknowledged because the store was not available.",
    "reports_stored": "Reports stored by this process.",
    "reports_duplicate": "Reports that had been stored before and were acknowledged again.",
    "reports_rejected": "Reports rejected and put into quarantine.",
    "frames_damaged": "Frames on serial lines that did not arrive whole; devices send them again.",
    "requests_limited": "Requests answered 429: too many.",
    "requests_unauthorized": "Requests answered 401 or 403.",
    "handshakes_failed": "TLS handshakes that failed.",
    "connections_many": "Connections ended because there were too many.",
    "connections_slow": "Connections ended because a request took too long to arrive.",
    "reports_without_series": "Reports stored but left out of the series below, of which there are too many.",
}


_STORE_COUNTERS = {
    "reports": "Reports stored since the store was made, by whichever collector.",
    "inferences": "Sum of the inferences in them.",
}


def render(
    metrics: IngestMetrics, devices: Sequence[tuple[float, Report]], version: str, totals: Counts | None = None
) -> str:
    """The page that Prometheus scrapes. devices: (received_s, last report) of each; totals: of the store."""
    counts, models, latency = metrics.snapshot()
    lines: list[str] = []
    lines += _family("edgeloop_build_info", "gauge", "Version of this collector.", [({"version": version}, 1)])
    for name, text in _PROCESS_COUNTERS.items():
        lines += _family(f"edgeloop_collector_{name}_total", "counter", text, [({}, counts.get(name, 0))])
    if totals is not None:
        for name, text in _STORE_COUNTERS.items():
            lines += _family(f"edgeloop_store_{name}_total", "counter", text, [({}, getattr(totals, name))])
        lines += _family("edgeloop_store_devices", "gauge", "Devices that ever reported.", [({}, totals.devices)])
        kept = "Reports that were rejected and are kept."
        lines += _family("edgeloop_store_quarantined_reports", "gauge", kept, [({}, totals.quarantined)])
    for name in COUNTERS:
        samples = [(_labels(model), values[name]) for model, values in models.items() if name in values]
        text = f"Sum of the counter '{name}' in the reports stored since this collector started."
        lines += _family(f"edgeloop_agent_{name}_total", "counter", text, samples)
    lines += _latency_family(latency)
    lines += _device_families(devices[:MAX_DEVICES])
    alerts = [({"device": d, "bundle": b, "alert": name}, lasted_s) for d, b, name, lasted_s in metrics.alerts()]
    lines += _family("edgeloop_device_alert_seconds", "gauge", "For how long something wants to be looked at.", alerts)
    return "\n".join(lines) + "\n"


def _latency_family(latency: Mapping[tuple[Model, str], Histogram]) -> Iterator[str]:
    name = "edgeloop_latency_seconds"
    if not latency:
        return
    yield f"# HELP {name} Latency of a stage of the pipeline on the devices."
    yield f"# TYPE {name} histogram"
    for (model, stage), histogram in latency.items():
        labels = {**_labels(model), "stage": stage}
        for bound, below in zip(_BOUNDS, cumulative(histogram), strict=True):
            yield _sample(f"{name}_bucket", {**labels, "le": repr(2.0 ** (bound / 2) / 1e9)}, below)
        yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, histogram.count)
        yield _sample(f"{name}_sum", labels, histogram.sum_ns / 1e9)
        yield _sample(f"{name}_count", labels, histogram.count)


def cumulative(histogram: Histogram) -> list[int]:
    """Samples at or below each of the bounds; exact, since our buckets do not cross them."""
    steps = [0] * (len(_BOUND_INDICES) + 1)
    for index, count in histogram.buckets.items():
        steps[bisect_left(_BOUND_INDICES, index)] += count
    total, below = histogram.zero_count, []
    for step in steps[:-1]:
        total += step
        below.append(total)
    return below


def _device_families(devices: Sequence[tuple[float, Report]]) -> Iterator[str]:
    families: dict[str, tuple[str, list[tuple[dict[str, str], float]]]] = {
        "edgeloop_device_info": ("What a device ran when it last reported.", []),
        "edgeloop_device_last_report_timestamp_seconds": ("When the last report of a device arrived.", []),
        "edgeloop_device_delegated_ratio": ("Share of the model's ops that the delegate ran.", []),
        "edgeloop_device_temperature_celsius": ("Temperature of a device.", []),
        "edgeloop_device_throttle_flags": ("Throttle flags of a device as its firmware gives them.", []),
        "edgeloop_device_resident_memory_bytes": ("Memory of a device's agent.", []),
    }
    gauges = {
        "temperature_c": "edgeloop_device_temperature_celsius",
        "throttle_flags": "edgeloop_device_throttle_flags",
        "rss_bytes": "edgeloop_device_resident_memory_bytes",
    }
    for received_s, report in devices:
        device = {"device": report.device}
        model = _labels((report.bundle, str(report.version), report.variant, report.delegate_ran))
        families["edgeloop_device_info"][1].append(({**device, **model, "runtime": report.runtime}, 1))
        families["edgeloop_device_last_report_timestamp_seconds"][1].append((device, received_s))
        families["edgeloop_device_delegated_ratio"][1].append((device, report.delegated_share))
        for gauge, name in gauges.items():
            if gauge in report.gauges:
                families[name][1].append((device, report.gauges[gauge]))
    for name, (text, samples) in families.items():
        yield from _family(name, "gauge", text, samples)


def _series_of(model: tuple[str, int, str, str]) -> Model:
    bundle, version, variant, delegate = model
    return bundle, str(version), variant, delegate


def _labels(model: Model) -> dict[str, str]:
    return dict(zip(_MODEL_LABELS, model, strict=True))


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    lines = [_sample(name, labels, value) for labels, value in samples]
    if lines:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield from lines


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
