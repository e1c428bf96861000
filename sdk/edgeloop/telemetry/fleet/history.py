"""Latency and events over time, of the fleet, a model version or a device: the one place that knows where they lie.

The last hour of the fleet is in memory by the minute; a day of one device is read from its reports, longer times and
more devices from the roll-ups of the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.fleet import arrivals
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.fleet.minutes import Minute
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import THROTTLED_NOW
from edgeloop.telemetry.report import HEADLINE_STAGE, STAGES, Report
from edgeloop.telemetry.store import Selection
from edgeloop.telemetry.store.database import Store

MARKED = ("throttling", "fallback", "restart", "retry", "update", "rollback", "variant_switch", "source_lost", "alert")
"""Kinds of events with a mark over the charts."""


@dataclass(frozen=True)
class Span:
    """How far back, in steps of how long; device_step_s: of one device, whose reports are read one by one (0: are
    not)."""

    seconds: int
    step_s: int
    device_step_s: int


SPANS: Mapping[str, Span] = {
    "1h": Span(3600, 60, 60),
    "24h": Span(86_400, 3600, 1800),
    "30d": Span(30 * 86_400, 86_400, 0),
}


@dataclass(frozen=True)
class Scope:
    """Of whom; everything where nothing is named."""

    device: str | None = None
    bundle: str | None = None
    version: int | None = None


@dataclass
class Bin:
    """What came in within one step."""

    stages: Mapping[str, Histogram] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    """Reports of boards that were held back; 0 where roll-ups are all there is."""


@dataclass
class History:
    """bins: by number of the step since 1970, first..last. gauges: a device's, the last value of each step."""

    step_s: int
    first: int
    last: int
    bins: dict[int, Bin] = field(default_factory=dict)
    gauges: dict[str, dict[int, float]] = field(default_factory=dict)


def read_history(store: Store, fleet: LiveFleet, scope: Scope, span: str, now_s: float) -> History:
    """DataError for a span that is not in SPANS; what the store raises."""
    if span not in SPANS:
        raise DataError(f"no span {span!r}", hint=f"known: {', '.join(SPANS)}")
    chosen = SPANS[span]
    from_reports = scope.device is not None and chosen.device_step_s > 0
    step_s = chosen.device_step_s if from_reports else chosen.step_s
    last = int(now_s // step_s)
    found = History(step_s, last - chosen.seconds // step_s + 1, last)
    if from_reports:
        since_s = float(found.first * step_s)
        selection = Selection(scope.device, bundle=scope.bundle, version=scope.version, since_s=since_s)
        _from_reports(found, (stored.report for stored in store.reports(selection)))
    elif step_s == 60:
        minutes = fleet.minutes(found.first, found.last, scope.bundle, scope.version)
        found.bins = {when: _bin(minute) for when, minute in minutes.items()}
    else:
        _from_rollups(found, store, scope)
    return found


def _from_rollups(found: History, store: Store, scope: Scope) -> None:
    whole = Selection(
        scope.device, bundle=scope.bundle, version=scope.version, since_s=float(found.first * found.step_s)
    )
    for step in range(found.first, found.last + 1):
        since_s = float(step * found.step_s)
        one = replace(whole, since_s=since_s, until_s=since_s + found.step_s)
        stages = {stage: histogram for (stage,), histogram in store.latency(one).items()}
        if stages:
            found.bins[step] = Bin(stages)
    for kind, time_s in arrivals.marked_events(store.database, whole, MARKED):
        step = int(time_s // found.step_s)
        if found.first <= step <= found.last:
            found.bins.setdefault(step, Bin()).events[kind] += 1


def _from_reports(found: History, reports: Iterable[Report]) -> None:
    """By the device's clock, as selections go."""
    minutes: dict[int, Minute] = {}
    for report in reports:
        step = int(report.time_s // found.step_s)
        if not found.first <= step <= found.last:
            continue
        throttled = bool(int(report.gauges.get("throttle_flags", 0)) & THROTTLED_NOW)
        minutes.setdefault(step, Minute()).add(report, throttled)
        for name, value in report.gauges.items():
            found.gauges.setdefault(name, {})[step] = value
    found.bins = {step: _bin(minute) for step, minute in minutes.items()}


def _bin(minute: Minute) -> Bin:
    return Bin(minute.stages, minute.events, minute.throttled)


def history_dict(found: History, stage: str = HEADLINE_STAGE) -> dict[str, Any]:
    """JSON: {step_s, t[], stages{name: {n[], mean_ms[], p50_ms[], p95_ms[], p99_ms[]}}, heat[[bucket, count]...] of
    `stage` per step (bucket i is 2^(i/16) to 2^((i+1)/16) ns), throttled[], marks[{t, kind, n}], gauges{name: []}}.
    """
    steps = range(found.first, found.last + 1)
    names = [name for name in STAGES if any(name in each.stages for each in found.bins.values())]
    marks = [
        {"t": step * found.step_s, "kind": kind, "n": n}
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
        "step_s": found.step_s,
        "t": [step * found.step_s for step in steps],
        "stages": {name: _series(found, name) for name in names},
        "heat": heat,
        "throttled": [found.bins[step].throttled if step in found.bins else 0 for step in steps],
        "marks": marks,
        "gauges": {name: [values.get(step) for step in steps] for name, values in sorted(found.gauges.items())},
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
