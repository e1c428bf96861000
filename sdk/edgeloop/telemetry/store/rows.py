"""A Report as rows and back. What a database cannot hold is refused here, report by report, before any transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Event, Report

MAX_INTEGER = 2**63 - 1
MAX_TIME_S = 253402300799.0  # the end of the year 9999: what a calendar can show
_TEXTS = ("device", "boot", "bundle", "variant", "delegate_asked", "delegate_ran", "runtime")
_INTEGERS = ("seq", "version", "delegated_ops", "total_ops")
_FLOATS = ("uptime_s", "period_s")


@dataclass(frozen=True)
class StoredReport:
    """A report as the store has it; `id` grows in the order of arrival, `received_s` is the collector's clock."""

    id: int
    received_s: float
    report: Report


@dataclass(frozen=True)
class ReportRows:
    """The rows of one report, still without the ids that the database gives."""

    key: tuple[str, str, int]
    report: dict[str, Any]
    latency: tuple[tuple[str, bytes], ...]
    events: tuple[Event, ...]


def to_rows(report: Report, received_s: float, latency: Mapping[str, bytes] | None = None) -> ReportRows:
    """DataError for a report with a value that no store can hold: a NUL, more than 63 bits, NaN, a wild time.

    latency: `Histogram.to_wire` of the report's stages where the caller has it already.
    """
    for name in _TEXTS:
        _check_text(name, getattr(report, name))
    for name in _INTEGERS:
        _check_integer(name, getattr(report, name))
    for name in _FLOATS:
        _check_float(name, getattr(report, name))
    _check_time(report.time_s)
    for counter, count in report.counters.items():
        _check_text("counter name", counter)
        _check_integer(counter, count)
    for gauge, value in report.gauges.items():
        _check_text("gauge name", gauge)
        _check_float(gauge, value)
    for stage in report.latency:
        _check_text("stage", stage)
    for event in report.events:
        _check_text("event kind", event.kind)
        _check_text("event detail", event.detail)
        _check_time(event.time_s)
    row: dict[str, Any] = {
        "boot": report.boot,
        "seq": report.seq,
        "received_s": received_s,
        "time_s": report.time_s,
        "uptime_s": report.uptime_s,
        "period_s": report.period_s,
        "bundle": report.bundle,
        "version": report.version,
        "variant": report.variant,
        "delegate_asked": report.delegate_asked,
        "delegate_ran": report.delegate_ran,
        "delegated_ops": report.delegated_ops,
        "total_ops": report.total_ops,
        "runtime": report.runtime,
        "unsigned": report.unsigned,
        "inferences": report.counters.get("inferences", 0),
        "counters": json.dumps(dict(report.counters)),
        "gauges": json.dumps(dict(report.gauges)),
        "unknown": cbor2.dumps(dict(report.unknown)) if report.unknown else None,
    }
    if latency is None:
        latency = {stage: histogram.to_wire() for stage, histogram in report.latency.items()}
    return ReportRows(report.key, row, tuple(latency.items()), report.events)


def from_rows(
    device: str, row: Mapping[str, Any], latency: Mapping[str, Histogram], events: Sequence[Event]
) -> StoredReport:
    """row: the columns of REPORTS by name."""
    report = Report(
        device=device,
        boot=row["boot"],
        seq=row["seq"],
        time_s=row["time_s"],
        uptime_s=row["uptime_s"],
        period_s=row["period_s"],
        bundle=row["bundle"],
        version=row["version"],
        variant=row["variant"],
        delegate_asked=row["delegate_asked"],
        delegate_ran=row["delegate_ran"],
        delegated_ops=row["delegated_ops"],
        total_ops=row["total_ops"],
        runtime=row["runtime"],
        unsigned=bool(row["unsigned"]),
        counters=json.loads(row["counters"]),
        latency=latency,
        gauges=json.loads(row["gauges"]),
        events=tuple(events),
        unknown=cbor2.loads(row["unknown"]) if row["unknown"] else {},
    )
    return StoredReport(row["id"], row["received_s"], report)


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise DataError(f"{name} contains a NUL character")


def _check_integer(name: str, value: int) -> None:
    if not 0 <= value <= MAX_INTEGER:
        raise DataError(f"{name} is not between 0 and 2**63 - 1")


def _check_float(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise DataError(f"{name} is not a finite number")


def _check_time(value: float) -> None:
    if not 0.0 <= value <= MAX_TIME_S:
        raise DataError("a time is outside the years 1970 to 9999")
