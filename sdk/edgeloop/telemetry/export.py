"""Reports as a table for spreadsheets and notebooks: CSV, or JSON lines with everything."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgeloop.bundle.files import EXPORT, check_may_replace
from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import COUNTERS, GAUGES, STAGES
from edgeloop.telemetry.store.selection import Selection

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Store
    from edgeloop.telemetry.store.rows import StoredReport

FORMATS = ("csv", "jsonl")
PERCENTILES = (50, 95, 99)

COLUMNS: tuple[str, ...] = (
    *("device", "boot", "seq", "time", "received", "uptime_s", "period_s", "bundle", "version", "variant"),
    *("delegate", "delegate_asked", "delegated_ops", "total_ops", "delegated_share", "runtime", "unsigned"),
    *("p50_ms", "p95_ms", "p99_ms"),
    *(f"{stage}_{column}" for stage in STAGES for column in ("n", "p50_ms", "p95_ms", "p99_ms")),
    *COUNTERS,
    *GAUGES,
    "events",
)
"""Columns of the CSV, and the keys that JSON lines start with. `p50_ms`, `p95_ms`, `p99_ms` are those of `invoke`."""

# A spreadsheet takes a cell that starts with one of these for a formula (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def export_reports(store: Store, path: Path | None, file_format: str, selection: Selection | None = None) -> int:
    """Write the reports of `selection` in the order of arrival; returns how many.

    path: None for stdout. A file appears whole or not at all. Reads in pages: memory does not grow with the store.
    Raises UsageError for an unknown format or a file there that is no export (the store itself, say), DataError when
    the file cannot be written.
    """
    if file_format not in FORMATS:
        raise UsageError(f"unknown format {file_format!r}", hint=f"known: {', '.join(FORMATS)}")
    if path is not None:
        check_may_replace(path, EXPORT)
    with _output(path) as out:
        write = _csv_writer(out) if file_format == "csv" else _jsonl_writer(out)
        count = 0
        for stored in store.reports(selection or Selection()):
            write(stored)
            count += 1
    return count


def parse_since(text: str, now_s: float) -> float:
    """`90m`, `2h`, `7d` ago, an ISO 8601 date or time (local unless it says otherwise) or unix seconds: as unix time.

    Raises UsageError for anything else.
    """
    ago = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", text)
    if ago:
        return now_s - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        number = float(text)
        if math.isfinite(number) and number >= 0:
            return number
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--since: not a time: {text!r}", hint="for example 2h, 7d or 2026-05-31T08:00") from None


def table_row(stored: StoredReport) -> dict[str, Any]:
    """One report by the names in `COLUMNS`, except `events`; None where it has no such value."""
    report = stored.report
    row: dict[str, Any] = {
        "device": report.device,
        "boot": report.boot,
        "seq": report.seq,
        "time": _iso(report.time_s),
        "received": _iso(stored.received_s),
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
    }
    stages: dict[str, Any] = {}
    for stage in STAGES:
        found = _percentiles(report.latency.get(stage))
        stages |= {f"{stage}_{name}": value for name, value in found.items()}
    row |= {f"p{p}_ms": stages[f"invoke_p{p}_ms"] for p in PERCENTILES}
    row |= stages
    row |= {name: report.counters.get(name) for name in COUNTERS}
    row |= {name: report.gauges.get(name) for name in GAUGES}
    return row


def cell(value: object) -> object:
    """What CSV gets: text that a spreadsheet would run as a formula gets a leading apostrophe, numbers stay."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv_writer(out: TextIO) -> Any:
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()

    def write(stored: StoredReport) -> None:
        row = table_row(stored)
        row["events"] = "; ".join(f"{event.kind}: {event.detail}" for event in stored.report.events)
        writer.writerow({name: cell(value) for name, value in row.items()})

    return write


def _jsonl_writer(out: TextIO) -> Any:
    def write(stored: StoredReport) -> None:
        report = stored.report
        row = table_row(stored)
        row["events"] = [{**asdict(event), "time": _iso(event.time_s)} for event in report.events]
        row["counters"], row["gauges"] = dict(report.counters), dict(report.gauges)
        row["latency"] = {stage: _whole(histogram) for stage, histogram in report.latency.items()}
        out.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _whole(histogram: Histogram) -> Mapping[str, Any]:
    """All there is to a histogram: buckets are [above ms, up to ms, count]."""
    return {
        "n": histogram.count,
        "sum_ms": histogram.sum_ms,
        "min_ms": histogram.min_ms,
        "max_ms": histogram.max_ms,
        "buckets": list(histogram.intervals_ms()),
    }


def _percentiles(histogram: Histogram | None) -> dict[str, float | None]:
    if histogram is None or not histogram.count:
        return {"n": None, **{f"p{p}_ms": None for p in PERCENTILES}}
    return {"n": histogram.count, **{f"p{p}_ms": round(histogram.percentile(p), 6) for p in PERCENTILES}}


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    part = path.with_name(f".{path.name}.part") if path.is_file() or not path.exists() else path
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
        if part != path:
            part.replace(path)
    except BaseException as error:
        if part != path:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"cannot write {path}: {error.strerror or error}", hint="another -o FILE") from error
        raise
