"""A Report as a row and back. What a database cannot hold is refused here, report by report, before any transaction.

The store keeps a report as it was sent (`body`, report_codec), and beside it what questions are asked by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.report import Event, Report
from edgeloop.telemetry.wire.report_codec import encode_report, reread_report

KEY = ("device_id", "boot", "seq")
COLUMNS = (
    *KEY,
    *("received_s", "time_s", "bundle", "version", "variant", "delegate_ran", "inferences", "body"),
)
"""Of the table `reports`, without its id; a row's values stand in this order."""

EVENT_COLUMNS = ("report_id", "position", "kind", "time_s", "detail")
"""Of the table `events`."""

MAX_INTEGER = 2**63 - 1
MAX_TIME_S = 253402300799.0  # the end of the year 9999: what a calendar can show


@dataclass(frozen=True)
class StoredReport:
    """A report as the store has it; `id` grows in the order of arrival, `received_s` is the collector's clock."""

    id: int
    received_s: float
    report: Report


@dataclass(frozen=True)
class StoredEvent:
    """An event and of which report it is: its id, when it arrived, whose it is. Events of a report follow each other in
    the order in which they happened."""

    report_id: int
    received_s: float
    device: str
    bundle: str
    kind: str
    detail: str


@dataclass(frozen=True)
class ReportRow:
    """One report on its way into the store. values: of COLUMNS behind the first, whose id the database gives."""

    device: str
    values: tuple[Any, ...]
    inferences: int
    events: tuple[Event, ...]


def to_row(report: Report, received_s: float, body: bytes | None = None, made_s: float | None = None) -> ReportRow:
    """body: what `report` was decoded from, where it was. made_s: when it was made, where its own clock is not believed
    (`telemetry.clock`), and its events with it; what it says itself stays in the body.

    Without it DataError for a report with a value that no store can hold: a NUL, more than 63 bits, NaN, a wild time.
    """
    if body is None:
        for value in (report.uptime_s, report.period_s, *report.gauges.values()):
            if not math.isfinite(value):
                raise DataError("a value is not a finite number")
        body = encode_report(report)
    inferences = report.counters.get("inferences", 0)
    values = (
        *(report.boot, report.seq, received_s, report.time_s if made_s is None else made_s),
        *(report.bundle, report.version, report.variant, report.delegate_ran, inferences, body),
    )
    events = report.events
    if made_s is not None and made_s != report.time_s:  # an event's time is its age before the report's
        events = tuple(replace(each, time_s=max(each.time_s + made_s - report.time_s, 0.0)) for each in events)
    return ReportRow(report.device, values, inferences, events)


def from_row(report_id: int, received_s: float, body: bytes) -> StoredReport:
    """Of what `selecting.matching` selects."""
    return StoredReport(report_id, received_s, reread_report(body))
