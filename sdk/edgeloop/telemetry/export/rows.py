"""One report as a row: the columns that every format has, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import COUNTERS, GAUGES, HEADLINE_STAGE, STAGES

if TYPE_CHECKING:
    from edgeloop.telemetry.store.rows import StoredReport

PERCENTILES = (50, 95, 99)
TIME, TEXT, WHOLE, REAL, SWITCH = "time", "text", "whole", "real", "switch"

_IDENTITY = {
    "device": TEXT, "boot": TEXT, "seq": WHOLE, "time": TIME, "received": TIME, "uptime_s": REAL, "period_s": REAL,
    "bundle": TEXT, "version": WHOLE, "variant": TEXT, "delegate": TEXT, "delegate_asked": TEXT,
    "delegated_ops": WHOLE, "total_ops": WHOLE, "delegated_share": REAL, "runtime": TEXT, "unsigned": SWITCH,
}  # fmt: skip
_LATENCY = {"n": WHOLE, **{f"p{p}_ms": REAL for p in PERCENTILES}}

COLUMN_TYPES: dict[str, str] = {
    **_IDENTITY,
    **{f"p{p}_ms": REAL for p in PERCENTILES},
    **{f"{stage}_{name}": kind for stage in STAGES for name, kind in _LATENCY.items()},
    **dict.fromkeys(COUNTERS, WHOLE),
    **dict.fromkeys(GAUGES, REAL),
}
"""Name -> kind of what every format has of a report; `p50_ms`, `p95_ms`, `p99_ms` are those of `invoke`."""

COLUMNS: tuple[str, ...] = (*COLUMN_TYPES, "events")
"""Columns of the CSV, and the keys that JSON lines and Parquet start with."""


def histograms_of(stored: StoredReport) -> dict[str, Histogram | None]:
    """By stage. A stored report decodes a histogram each time it is asked for one."""
    return {stage: stored.report.latency.get(stage) for stage in STAGES}


def table_row(stored: StoredReport, histograms: Mapping[str, Histogram | None] | None = None) -> dict[str, Any]:
    """One report by the names in `COLUMN_TYPES`; None where it has no such value. Times are unix seconds.

    histograms: `histograms_of` it, where the caller has them.
    """
    report = stored.report
    stages: dict[str, Any] = {}
    for stage, histogram in (histograms or histograms_of(stored)).items():
        stages |= _latency(stage, histogram)
    return {
        "device": report.device,
        "boot": report.boot,
        "seq": report.seq,
        "time": report.time_s,
        "received": stored.received_s,
        "uptime_s": report.uptime_s,
        "period_s": report.period_s,
        "bundle": report.bundle,
        "version": report.version,
        "variant": report.variant,
        "delegate": report.delegate_ran,
        "delegate_asked": report.delegate_asked,
        "delegated_ops": report.delegated_ops,
        "total_ops": report.total_ops,
        "delegated_share": round(report.delegated_share, 6),
        "runtime": report.runtime,
        "unsigned": report.unsigned,
        **{f"p{p}_ms": stages[f"{HEADLINE_STAGE}_p{p}_ms"] for p in PERCENTILES},
        **stages,
        **{name: report.counters.get(name) for name in COUNTERS},
        **{name: report.gauges.get(name) for name in GAUGES},
    }


def _latency(stage: str, histogram: Histogram | None) -> dict[str, Any]:
    if histogram is None or not histogram.count:
        return {f"{stage}_{name}": None for name in _LATENCY}
    percentiles = {f"{stage}_p{p}_ms": round(histogram.percentile(p), 6) for p in PERCENTILES}
    return {f"{stage}_n": histogram.count, **percentiles}
