"""Exports as text: CSV for spreadsheets, JSON lines with everything for scripts."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeloop.telemetry.export.rows import COLUMN_TYPES, COLUMNS, TIME, table_row
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.times import iso

if TYPE_CHECKING:
    from edgeloop.telemetry.store.rows import StoredReport

# A spreadsheet takes a cell that starts with one of these for a formula (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_TIMES = tuple(name for name, kind in COLUMN_TYPES.items() if kind == TIME)


def cell(value: object) -> object:
    """What CSV gets: text that a spreadsheet would run as a formula gets a leading apostrophe, numbers stay."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


class CsvWriter:
    """A head and a line per report."""

    def __init__(self, out: BinaryIO) -> None:
        self._rows = csv.DictWriter(_Encoded(out), COLUMNS, lineterminator="\n")
        self._rows.writeheader()

    def write(self, stored: StoredReport) -> None:
        row = _row(stored)
        row["events"] = "; ".join(f"{event.kind}: {event.detail}" for event in stored.report.events)
        self._rows.writerow({name: cell(value) for name, value in row.items()})

    def close(self) -> None:
        pass


class JsonLinesWriter:
    """An object per report: the columns, then all counters, gauges, events and histogram buckets."""

    def __init__(self, out: BinaryIO) -> None:
        self._text = _Encoded(out)

    def write(self, stored: StoredReport) -> None:
        report = stored.report
        row = _row(stored)
        row["events"] = [{**asdict(event), "time": iso(event.time_s)} for event in report.events]
        row["counters"], row["gauges"] = dict(report.counters), dict(report.gauges)
        row["latency"] = {stage: _whole(histogram) for stage, histogram in report.latency.items()}
        self._text.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        pass


class _Encoded:
    """Text into a stream of bytes that stays its owner's."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode("utf-8", "backslashreplace"))


def _row(stored: StoredReport) -> dict[str, Any]:
    row = table_row(stored)
    return {**row, **{name: iso(row[name]) for name in _TIMES}}


def _whole(histogram: Histogram) -> Mapping[str, Any]:
    """All there is to a histogram: buckets are [above ms, up to ms, count]."""
    return {
        "n": histogram.count,
        "sum_ms": histogram.sum_ms,
        "min_ms": histogram.min_ms,
        "max_ms": histogram.max_ms,
        "buckets": list(histogram.intervals_ms()),
    }
