"""Exports as Parquet: typed columns, histograms as list columns, a row group at a time in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from edgeloop.errors import DataError, MissingExtraError
from edgeloop.telemetry.export.rows import COLUMN_TYPES, REAL, SWITCH, TEXT, TIME, WHOLE, histograms_of, table_row
from edgeloop.telemetry.report import STAGES

if TYPE_CHECKING:
    from edgeloop.telemetry.store.rows import StoredReport

ROW_GROUP_ROWS = 5_000
"""Rows that are held in memory before they are written."""

_BUCKETS = "_buckets"


class ParquetWriter:
    """The columns of `COLUMN_TYPES`, then per stage `STAGE_sum_ms` and `STAGE_buckets` (a list of {above_ms, up_to_ms,
    count}; zeros are {0, 0, n}), `events` (a list of {kind, time, detail}), and every counter and gauge by name.

    Raises MissingExtraError without pyarrow.
    """

    def __init__(self, out: BinaryIO) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("an export to Parquet", "parquet") from error
        self._pa = pa
        self._schema = _schema(pa)
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._rows = 0
        self._writer = pq.ParquetWriter(out, self._schema, compression="zstd")

    def write(self, stored: StoredReport) -> None:
        for name, value in _row(stored).items():
            self._columns[name].append(value)
        self._rows += 1
        if self._rows == ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Writes the last rows and the footer, without which the file is none."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        try:
            self._writer.write_table(self._pa.table(self._columns, schema=self._schema))
        except self._pa.ArrowInvalid as error:
            raise DataError(f"cannot be written as Parquet: {error}") from error
        for values in self._columns.values():
            values.clear()
        self._rows = 0


def _schema(pa: Any) -> Any:
    kinds: Mapping[str, Callable[[], Any]] = {
        TEXT: pa.string,
        WHOLE: pa.int64,
        REAL: pa.float64,
        SWITCH: pa.bool_,
        TIME: lambda: pa.timestamp("ms", tz="UTC"),
    }
    bucket = pa.struct([("above_ms", pa.float64()), ("up_to_ms", pa.float64()), ("count", pa.int64())])
    event = pa.struct([("kind", pa.string()), ("time", pa.timestamp("ms", tz="UTC")), ("detail", pa.string())])
    fields = [(name, kinds[kind]()) for name, kind in COLUMN_TYPES.items()]
    for stage in STAGES:
        fields += [(f"{stage}_sum_ms", pa.float64()), (f"{stage}{_BUCKETS}", pa.list_(bucket))]
    fields += [
        ("events", pa.list_(event)),
        ("counters", pa.map_(pa.string(), pa.int64())),
        ("gauges", pa.map_(pa.string(), pa.float64())),
    ]
    return pa.schema(fields)


def _row(stored: StoredReport) -> dict[str, Any]:
    report = stored.report
    histograms = histograms_of(stored)
    row = table_row(stored, histograms)
    for name, kind in COLUMN_TYPES.items():
        if kind == TIME:
            row[name] = _ms(row[name])
    for stage, histogram in histograms.items():
        row[f"{stage}_sum_ms"] = None if histogram is None else histogram.sum_ms
        row[f"{stage}{_BUCKETS}"] = None if histogram is None else list(histogram.intervals_ms())
    row["events"] = [{"kind": e.kind, "time": _ms(e.time_s), "detail": e.detail} for e in report.events]
    row["counters"], row["gauges"] = list(report.counters.items()), list(report.gauges.items())
    return row


def _ms(time_s: float) -> int:
    return round(time_s * 1000)
