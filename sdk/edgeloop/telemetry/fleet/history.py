"""Latency and events over time, of the fleet, a model version or a device: the one place that knows where they lie.

The last hour of the fleet is in memory by the minute; a device's own reports, and longer times of many devices, come
from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.fleet.minutes import Minute
from edgeloop.telemetry.overview import THROTTLED_NOW
from edgeloop.telemetry.report import HEADLINE_STAGE, STAGES, Report
from edgeloop.telemetry.store import Selection
from edgeloop.telemetry.store.database import Store

MAX_REPORTS = 40_000
"""Read one by one from the store for one picture; the newest are shown, and it is said that some are missing."""
MARKED = ("throttling", "fallback", "restart", "retry", "update", "rollback", "variant_switch", "source_lost", "alert")
"""Kinds of events with a mark over the charts."""


@dataclass(frozen=True)
class Span:
    """How far back, in steps of how long."""

    seconds: int
    step_s: int


SPANS: Mapping[str, Span] = {
    "1h": Span(3600, 60),
    "24h": Span(86_400, 1800),
    "30d": Span(30 * 86_400, 86_400),
}


@dataclass(frozen=True)
class Scope:
    """Of whom; everything where nothing is named."""

    device: str | None = None
    bundle: str | None = None
    version: int | None = None


@dataclass
class History:
    """bins: by number of the step since 1970. gauges: a device's, the last value of each step. cut: more was there."""

    span: Span
    first: int
    last: int
    bins: dict[int, Minute] = field(default_factory=dict)
    gauges: dict[str, dict[int, float]] = field(default_factory=dict)
    cut: bool = False


def read_history(store: Store, fleet: LiveFleet, scope: Scope, span: str, now_s: float) -> History:
    """DataError for a span that is not in SPANS; what `Store.reports` raises."""
    if span not in SPANS:
        raise DataError(f"no span {span!r}", hint=f"known: {', '.join(SPANS)}")
    chosen = SPANS[span]
    last = int(now_s // chosen.step_s)
    found = History(chosen, last - chosen.seconds // chosen.step_s + 1, last)
    if scope.device is None and chosen.step_s == 60:
        found.bins = fleet.minutes(found.first, found.last, scope.bundle, scope.version)
        return found
    since_s = float(found.first * chosen.step_s)
    selection = Selection(device=scope.device, bundle=scope.bundle, version=scope.version, since_s=since_s)
    newest = max(store.last_report_id() - MAX_REPORTS, 0) if scope.device is None else 0
    reports = [stored.report for stored in store.reports(selection, after_id=newest)]
    found.cut = bool(newest)
    _fill(found, reports, with_gauges=scope.device is not None)
    return found


def _fill(found: History, reports: Iterable[Report], *, with_gauges: bool) -> None:
    """By the device's clock, as selections go."""
    for report in reports:
        step = int(report.time_s // found.span.step_s)
        if not found.first <= step <= found.last:
            continue
        throttled = bool(int(report.gauges.get("throttle_flags", 0)) & THROTTLED_NOW)
        found.bins.setdefault(step, Minute()).add(report, throttled)
        if with_gauges:
            for name, value in report.gauges.items():
                found.gauges.setdefault(name, {})[step] = value


def history_dict(found: History, stage: str = HEADLINE_STAGE) -> dict[str, Any]:
    """JSON: {step_s, t[], stages{name: {n[], mean_ms[], p50_ms[], p95_ms[], p99_ms[]}}, heat[[bucket, count]...] of
    `stage` per step (bucket i is 2^(i/16) to 2^((i+1)/16) ns), throttled[], reports[], marks[{t, kind, n}],
    gauges{name: []}, cut}.
    """
    steps = range(found.first, found.last + 1)
    names = [name for name in STAGES if any(name in each.stages for each in found.bins.values())]
    marks = [
        {"t": step * found.span.step_s, "kind": kind, "n": n}
        for step in steps
        if step in found.bins
        for kind, n in sorted(found.bins[step].events.items())
        if kind in MARKED
    ]
    heat: list[list[tuple[int, int]]] = []
    for step in steps:
        histogram = found.bins[step].stages.get(stage) if step in found.bins else None
        heat.append(sorted(histogram.buckets.items()) if histogram is not None else [])
    return {
        "step_s": found.span.step_s,
        "t": [step * found.span.step_s for step in steps],
        "stages": {name: _series(found, name) for name in names},
        "heat": heat,
        "throttled": [found.bins[step].throttled if step in found.bins else 0 for step in steps],
        "reports": [found.bins[step].reports if step in found.bins else 0 for step in steps],
        "marks": marks,
        "gauges": {name: [values.get(step) for step in steps] for name, values in sorted(found.gauges.items())},
        "cut": found.cut,
    }


def _series(found: History, stage: str) -> dict[str, list[float | int | None]]:
    series: dict[str, list[float | int | None]] = {
        name: [] for name in ("n", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    }
    for step in range(found.first, found.last + 1):
        histogram = found.bins[step].stages.get(stage) if step in found.bins else None
        if histogram is None or not histogram.count:
            for values in series.values():
                values.append(None)
            continue
        series["n"].append(histogram.count)
        series["mean_ms"].append(round(histogram.mean_ms, 4))
        series["max_ms"].append(round(histogram.max_ms, 4))
        for p in (50, 95, 99):
            series[f"p{p}_ms"].append(round(histogram.percentile(p), 4))
    return series
