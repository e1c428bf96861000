"""What the page and `edgeloop monitor` show: the devices as they are now."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.hit_rates import hit_rates
from edgeloop.telemetry.report import STAGES, Report, alerts_of

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Store
    from edgeloop.telemetry.store.rows import StoredReport

WINDOW_REPORTS = 30
"""Latency is over a device's last so many reports, as far as they are of the model and delegate it runs now."""

RATE_S = 1.0
"""Inferences per second are over at least this long, where there are reports for it."""

THROTTLED_NOW = 0xF  # vcgencmd get_throttled: bits 0-3 are now, bits 16-19 since boot


SILENT_PERIODS = 3
SILENT_AT_LEAST_S = 30.0


def silent_after_s(last: Report) -> float:
    """How long a device may be quiet after this report before it counts as silent."""
    return max(SILENT_PERIODS * last.period_s, SILENT_AT_LEAST_S)


@dataclass(frozen=True)
class StageView:
    """Percentiles of one stage over the window."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class DeviceView:
    """One model on one device. throttled: None where the board does not say. alerts: see `report.alerts_of`.
    silent_after_s: how long it may be quiet before it counts as silent.

    histogram: (lower ms, upper ms, count) of `invoke`.

    trend_p95_ms: the invoke p95 of each report of the window, oldest first.
    """

    device: str
    received_s: float
    silent_after_s: float
    time_s: float
    boot: str
    seq: int
    uptime_s: float
    bundle: str
    version: int
    variant: str
    delegate_asked: str
    delegate_ran: str
    delegated_share: float
    runtime: str
    unsigned: bool
    inferences_per_s: float | None
    throttled: bool | None
    alerts: Mapping[str, float]
    gauges: Mapping[str, float]
    counters: Mapping[str, int]
    caches: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, StageView]
    histogram: tuple[tuple[float, float, int], ...]
    trend_p95_ms: tuple[float, ...]
    last_event: Mapping[str, Any] | None
    window_reports: int

    def to_dict(self) -> dict[str, Any]:
        """JSON keys are the fields' names."""
        return asdict(self)


def describe_models(recent: Sequence[StoredReport]) -> tuple[DeviceView, ...]:
    """A view for each bundle that the device's last boot reported of, by name. recent: as of `describe`."""
    boot = recent[-1].report.boot
    bundles = sorted({each.report.bundle for each in recent if each.report.boot == boot})
    of_bundle = ([each for each in recent if each.report.bundle == bundle] for bundle in bundles)
    return tuple(describe(reports) for reports in of_bundle)


def describe(recent: Sequence[StoredReport]) -> DeviceView:
    """recent: at least one report of one model, oldest first. Counters are summed over the window."""
    last = recent[-1].report
    window = [each.report for each in recent if model_of(each.report) == model_of(last)]
    parts: dict[str, list[Histogram]] = {}
    counters: dict[str, int] = {}
    for report in window:
        for stage, histogram in report.latency.items():
            parts.setdefault(stage, []).append(histogram)
        for name, count in report.counters.items():
            counters[name] = counters.get(name, 0) + count
    merged = {
        stage: Histogram.merged(parts[stage])
        for stage in (*STAGES, *sorted(set(parts) - set(STAGES)))
        if stage in parts
    }
    invoke = merged.get("invoke", Histogram())
    events = [event for each in recent for event in each.report.events]
    flags = last.gauges.get("throttle_flags")
    return DeviceView(
        device=last.device,
        received_s=recent[-1].received_s,
        silent_after_s=silent_after_s(last),
        time_s=last.time_s,
        boot=last.boot,
        seq=last.seq,
        uptime_s=last.uptime_s,
        bundle=last.bundle,
        version=last.version,
        variant=last.variant,
        delegate_asked=last.delegate_asked,
        delegate_ran=last.delegate_ran,
        delegated_share=last.delegated_share,
        runtime=last.runtime,
        unsigned=last.unsigned,
        inferences_per_s=_rate(window),
        alerts=alerts_of(last),
        throttled=None if flags is None else bool(int(flags) & THROTTLED_NOW),
        gauges=dict(last.gauges),
        counters=counters,
        caches=hit_rates(counters),
        stages={stage: _view(histogram) for stage, histogram in merged.items() if histogram.count},
        histogram=tuple(invoke.intervals_ms()),
        trend_p95_ms=tuple(r.latency["invoke"].percentile(95) for r in window if "invoke" in r.latency),
        last_event=asdict(events[-1]) if events else None,
        window_reports=len(window),
    )


def _rate(window: Sequence[Report]) -> float | None:
    """Inferences a second over the newest reports which together cover RATE_S: the last one of a run may be short."""
    inferences, seconds = 0, 0.0
    for report in reversed(window):
        inferences += report.counters.get("inferences", 0)
        seconds += report.period_s
        if seconds >= RATE_S:
            break
    return inferences / seconds if seconds > 0 else None


def model_of(report: Report) -> tuple[str, int, str, str]:
    """What latencies must have in common to belong together."""
    return report.bundle, report.version, report.variant, report.delegate_ran


def _view(histogram: Histogram) -> StageView:
    p50, p95, p99 = (histogram.percentile(p) for p in (50, 95, 99))
    return StageView(histogram.count, p50, p95, p99, histogram.max_ms)


_KEPT_PAGES = 10
"""So many pages of views are kept, for those who turn them again and again."""


@dataclass
class Overview:
    """The devices of a store, described again only when they have reported since. Safe between threads."""

    store: Store
    max_devices: int = 1000
    _known: dict[str, tuple[int, tuple[DeviceView, ...]]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def devices(self) -> list[DeviceView]:
        """By name, `max_devices` at most; one view for each model of a device that runs several."""
        return self.page()[0]

    def page(self, after: str = "", names: Collection[str] | None = None) -> tuple[list[DeviceView], str | None]:
        """(`devices` whose names come after `after`, of `names` only; the name to go on after, None at the end)."""
        asked = None
        if names is not None:
            asked = sorted(name for name in names if name > after)[: self.max_devices + 1]
        one_more = self.max_devices + 1
        with self._lock:
            if asked is None:
                found = self.store.latest(limit=one_more, after=after)
            else:
                found = self.store.latest(names=asked[: self.max_devices])
            views: dict[str, tuple[int, tuple[DeviceView, ...]]] = {}
            for last in found[: self.max_devices]:
                device = last.report.device
                known = self._known.get(device)
                if known is None or known[0] != last.id:
                    known = last.id, describe_models(self.store.recent(device, WINDOW_REPORTS))
                views[device] = known
            self._known = {**self._known, **views} if len(self._known) <= _KEPT_PAGES * self.max_devices else views
        shown = [view for _last_id, models in views.values() for view in models]
        if asked is not None:  # some of them may never have reported
            return shown, asked[-2] if len(asked) > self.max_devices else None
        return shown, found[-2].report.device if len(found) > self.max_devices else None

    def to_dict(self, now_s: float, after: str = "", names: Collection[str] | None = None) -> dict[str, Any]:
        """`/v1/devices` and `monitor --json`: now_s, totals {devices, reports, inferences, quarantined}, devices[],
        next.

        after, names, next: see `page`."""
        views, following = self.page(after, names)
        devices = [view.to_dict() for view in views]
        return {"now_s": now_s, "totals": asdict(self.store.counts()), "devices": devices, "next": following}
