"""One telemetry report as a value, and how two of them become one.

No frame, no input and no output of a model is in a report: counters, latency histograms, gauges and events only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeloop.telemetry.histogram import Histogram

STAGES = ("capture", "preprocess", "invoke", "postprocess", "total")
"""Stages with a latency histogram, in the order of the pipeline."""

HEADLINE_STAGE = "invoke"
"""The stage meant where one latency stands for a device: the model's own, which a bench measures, too."""

COUNTERS = (
    "frames",
    "inferences",
    "gated",
    "drops",
    "errors",
    "cache_hits_l1",
    "cache_misses_l1",
    "cache_hits_l2",
    "cache_misses_l2",
    "cache_hits_l3",
    "cache_misses_l3",
    "rejected_inputs",
    "worker_restarts",
    "reports_merged",
    "reports_quarantined",
    "reports_refused",
    "events_dropped",
    "hard_samples_kept",
    "hard_samples_sent",
)
"""Counters with a one-byte code on the wire; any other name travels as text. All count what happened in the period."""

GAUGES = (
    "temperature_c",
    "throttle_flags",
    "frequency_mhz",
    "load_1m",
    "rss_bytes",
    "memory_available_bytes",
    "spool_bytes",
    "spool_reports",
    "fps",
    "profile_p50_ms",
    "profile_p95_ms",
    "profile_measured_on",
    "usb_mbps",
)
"""Gauges with a one-byte code on the wire; any other name travels as text. All are the value at the report's time."""

THIS_BOARD, OTHER_BOARD, HOST = 0, 1, 2
"""Values of the gauge `profile_measured_on`: on what the bundle's profile was measured; on others than this kind of
board its figures are not in the report."""

ALERT_PREFIX = "alert_"
"""A gauge of this name is an alert: something that somebody should look at, and for how many seconds it has been so."""

MAX_EVENTS = 64
BOOT_PATTERN = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Event:
    """Something that happened once: kind is "fallback", "restart", "variant_switch", "source_lost", "update", ...

    time_s: unix time. detail: one line for people; control characters and what exceeds 240 characters are cut on the
    way.
    """

    kind: str
    time_s: float
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """What one device did in one period. (device, boot, seq) is its key: a second report with it is a duplicate.

    boot: 16 lowercase hex digits, random per agent start; seq: 1, 2, ... within it. time_s: unix time at the end of the
    period; uptime_s: monotonic seconds since the agent's start; period_s: monotonic length of the period.
    delegate_asked / delegate_ran: what was wished and what really ran (`delegated_ops` of `total_ops`).
    unknown: top-level keys of a newer version, kept and sent on as they came.
    """

    device: str
    boot: str
    seq: int
    time_s: float
    uptime_s: float = 0.0
    period_s: float = 0.0
    bundle: str = ""
    version: int = 0
    variant: str = ""
    delegate_asked: str = ""
    delegate_ran: str = ""
    delegated_ops: int = 0
    total_ops: int = 0
    runtime: str = ""
    unsigned: bool = False
    counters: Mapping[str, int] = field(default_factory=dict)
    latency: Mapping[str, Histogram] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    unknown: Mapping[int, object] = field(default_factory=dict)

    @classmethod
    def of_fields(cls, fields: Mapping[str, object]) -> Report:
        """One whose fields are all given, quicker than by name: a frozen dataclass sets each of its own by a call."""
        report = object.__new__(cls)
        vars(report).update(fields)
        return report

    @property
    def key(self) -> tuple[str, str, int]:
        """(device, boot, seq)."""
        return self.device, self.boot, self.seq

    @property
    def delegated_share(self) -> float:
        """Share of the model's ops that the delegate ran, 0..1."""
        return self.delegated_ops / self.total_ops if self.total_ops else 0.0


def alerts_of(report: Report) -> dict[str, float]:
    """What somebody should look at, by name ("fallback"), and for how many seconds it has been so."""
    n = len(ALERT_PREFIX)
    return {name[n:]: value for name, value in report.gauges.items() if name.startswith(ALERT_PREFIX) and name[n:]}


def subject_of(report: Report) -> tuple[object, ...]:
    """What a report is about; the histograms of two reports belong together when this is equal. The boot is not in it:
    an agent that starts again and again while nobody listens must not fill its spool for good."""
    return (
        report.device,
        report.bundle,
        report.version,
        report.variant,
        report.delegate_asked,
        report.delegate_ran,
        report.delegated_ops,
        report.total_ops,
        report.runtime,
        report.unsigned,
    )


def merge_reports(reports: Sequence[Report]) -> Report:
    """One report for several of the same subject, oldest first: counters summed, histograms merged, periods added.

    Key, time and gauges are the last one's, so it must be one that was never sent. Events are all kept up to
    MAX_EVENTS, then the oldest are dropped and counted. The counter `reports_merged` says how many were folded in.
    ValueError when there is none, or when they are not of one subject.
    """
    if not reports:
        raise ValueError("no reports to merge")
    last = reports[-1]
    if any(subject_of(report) != subject_of(last) for report in reports):
        raise ValueError("reports of different subjects cannot be merged")
    counters: dict[str, int] = {}
    gauges: dict[str, float] = {}
    unknown: dict[int, object] = {}
    stages: dict[str, list[Histogram]] = {}
    for report in reports:
        for name, count in report.counters.items():
            counters[name] = counters.get(name, 0) + count
        for stage, histogram in report.latency.items():
            stages.setdefault(stage, []).append(histogram)
        gauges = {name: value for name, value in gauges.items() if not name.startswith(ALERT_PREFIX)}
        gauges.update(report.gauges)
        unknown.update(report.unknown)
    events = tuple(event for report in reports for event in report.events)
    counters["reports_merged"] = counters.get("reports_merged", 0) + len(reports) - 1
    if len(events) > MAX_EVENTS:
        counters["events_dropped"] = counters.get("events_dropped", 0) + len(events) - MAX_EVENTS
        events = events[-MAX_EVENTS:]
    return replace(
        last,
        period_s=sum(report.period_s for report in reports),
        counters=counters,
        latency={stage: Histogram.merged(parts) for stage, parts in stages.items()},
        gauges=gauges,
        events=events,
        unknown=unknown,
    )
