"""One model on one device, as a line of the fleet's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeloop.telemetry.fleet.window import LatencyWindow
from edgeloop.telemetry.histogram import NS_PER_MS, Histogram
from edgeloop.telemetry.overview import THROTTLED_NOW, WINDOW_REPORTS, model_of, silent_after_s
from edgeloop.telemetry.report import HEADLINE_STAGE, Event, Report, alerts_of
from edgeloop.telemetry.wire.latency import wires_of

_STACKED = ("capture", "preprocess", "invoke", "postprocess")


@dataclass(frozen=True)
class FleetRow:
    """What the table shows of one model on one device; percentiles are of `invoke` over the last reports.

    id: stays the row's own as long as the collector runs. latency: of the last report. alerts: what the device itself
    says, and for how many seconds; firing: the collector's rules. silent_after_s: how long it may be quiet before it
    counts as silent.
    """

    id: int
    device: str
    bundle: str
    version: int
    variant: str
    delegate_asked: str
    delegate_ran: str
    delegated_share: float
    unsigned: bool
    n: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    trend_p95_ms: tuple[float, ...]
    latency: Mapping[str, Histogram]
    inferences_per_s: float | None
    errors: int
    throttled: bool | None
    temperature_c: float | None
    profile_p95_ms: float | None
    alerts: Mapping[str, float]
    firing: tuple[str, ...]
    event: Mapping[str, Any] | None
    received_s: float
    period_s: float
    silent_after_s: float
    search: str

    @property
    def fell_back(self) -> bool:
        """Runs on another delegate than the one that was asked for."""
        return bool(self.delegate_asked) and self.delegate_asked != self.delegate_ran

    def silent(self, now_s: float) -> bool:
        return now_s - self.received_s > self.silent_after_s

    def to_dict(self) -> dict[str, Any]:
        """JSON keys are the fields' names, without `search` and with stages_ms, the mean of each stage, for `latency`;
        numbers are as exact as a screen shows them.
        """
        data = {name: getattr(self, name) for name in _SHOWN}
        data["trend_p95_ms"] = [round(value, 4) for value in self.trend_p95_ms]
        data["stages_ms"] = [round(_mean_ms(self.latency, stage), 4) for stage in _STACKED]
        data["fell_back"] = self.fell_back
        return data


_SHOWN = tuple(name for name in FleetRow.__dataclass_fields__ if name not in ("search", "latency"))


class RowState:
    """What a row is made from, fed with the reports of its model as they come in; latency is folded when one looks.

    Not safe between threads: its owner has a lock.
    """

    __slots__ = (
        *("_event", "_full", "_last", "_model", "_percentiles", "_window"),
        *("boot", "changed", "firing", "id", "keys", "received_s", "without_latency"),
    )

    def __init__(self, row_id: int) -> None:
        self.id = row_id
        self.boot = ""
        self.received_s = 0.0
        self.changed = 0
        """The fleet's revision at which the row last changed."""
        self.firing: tuple[str, ...] = ()
        self.keys: frozenset[tuple[str, int]] = frozenset()
        """(boot, seq) of the reports that were read from the store rather than observed."""
        self._model: tuple[str, int, str, str] | None = None
        self._window = LatencyWindow(WINDOW_REPORTS)
        self._event: Event | None = None
        self._last: Report | None = None
        self.without_latency: FleetRow | None = None
        """`row` for those who do not look at n, percentiles and trend, which take their time; here 0, None and ()."""
        self._full: FleetRow | None = None
        self._percentiles: dict[float, float | None] = {}

    def add(self, reports: Sequence[Report], received_s: float) -> None:
        """One or more reports of this row's device and bundle, oldest first."""
        last = reports[-1]
        if model_of(last) != self._model:
            self._model, self._window = model_of(last), LatencyWindow(WINDOW_REPORTS)
        mine = (each for each in reports[-WINDOW_REPORTS:] if model_of(each) == self._model)
        self._window.add(wires_of(each.latency).get(HEADLINE_STAGE, b"") for each in mine)
        for report in reports:
            if report.events:
                self._event = report.events[-1]
        self.boot, self.received_s, self._last = last.boot, received_s, last
        self._renew(last)

    def set_firing(self, rules: tuple[str, ...]) -> bool:
        """Whether that changed anything."""
        if rules == self.firing or self._last is None:
            return False
        self.firing = rules
        self._renew(self._last)
        return True

    @property
    def row(self) -> FleetRow | None:
        """None before the first report."""
        if self._full is None and self.without_latency is not None:
            p50, p95, p99 = (self.percentile(p) for p in (50, 95, 99))
            n, trend = self._window.histogram.count, self._window.trend_p95_ms
            self._full = replace(self.without_latency, n=n, p50_ms=p50, p95_ms=p95, p99_ms=p99, trend_p95_ms=trend)
        return self._full

    def settle(self) -> None:
        """Fold the latency that waits, before somebody looks."""
        self._window.settle()

    def percentile(self, p: float) -> float | None:
        """As in the row, in ms; None without a latency."""
        if p not in self._percentiles:
            merged = self._window.histogram
            self._percentiles[p] = round(merged.percentile(p), 4) if merged.count else None
        return self._percentiles[p]

    def _renew(self, last: Report) -> None:
        self.without_latency, self._full = self._make(last), None
        self._percentiles.clear()

    def _make(self, last: Report) -> FleetRow:
        flags, event = last.gauges.get("throttle_flags"), self._event
        names = (last.device, last.bundle, f"v{last.version}", last.variant, last.delegate_ran)
        return FleetRow(
            id=self.id,
            device=last.device,
            bundle=last.bundle,
            version=last.version,
            variant=last.variant,
            delegate_asked=last.delegate_asked,
            delegate_ran=last.delegate_ran,
            delegated_share=last.delegated_share,
            unsigned=last.unsigned,
            n=0,
            p50_ms=None,
            p95_ms=None,
            p99_ms=None,
            trend_p95_ms=(),
            latency=last.latency,
            inferences_per_s=last.counters.get("inferences", 0) / last.period_s if last.period_s > 0 else None,
            errors=last.counters.get("errors", 0),
            throttled=None if flags is None else bool(int(flags) & THROTTLED_NOW),
            temperature_c=last.gauges.get("temperature_c"),
            profile_p95_ms=last.gauges.get("profile_p95_ms"),
            alerts=alerts_of(last),
            firing=self.firing,
            event=None if event is None else {"kind": event.kind, "time_s": event.time_s, "detail": event.detail},
            received_s=self.received_s,
            period_s=last.period_s,
            silent_after_s=silent_after_s(last),
            search="\n".join(names).lower(),
        )


def _mean_ms(latency: Mapping[str, Histogram], stage: str) -> float:
    histogram = latency.get(stage)
    count = histogram.count if histogram is not None else 0
    return histogram.sum_ns / NS_PER_MS / count if histogram is not None and count else 0.0
