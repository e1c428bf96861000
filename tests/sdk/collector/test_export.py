"""Exports: what is in the store, in files that spreadsheets and scripts take."""

from __future__ import annotations

import csv
import json
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.export import FORMATS, export_reports
from edgeloop.telemetry.export.rows import COLUMNS
from edgeloop.telemetry.export.text import cell
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import GAUGES, STAGES
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.rows import StoredReport
from edgeloop.telemetry.times import parse_time
from support.collecting import make_report, with_event

FORMULA = '=HYPERLINK("http://evil","x")'


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    store.insert([make_report(n) for n in range(1, 4)])
    store.insert([with_event(make_report(1, device="pi-2", bundle="kws"))])
    store.insert([make_report(1, device=FORMULA, runtime='a,"b"', gauges={"temperature_c": -5.5}, latency={})])
    store.close()
    return url


def export(url: str, path: Path, *options: str) -> list[dict[str, str]]:
    assert main(["telemetry", "export", "--store", url, "-o", str(path), *options]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_the_designs_columns_and_every_report(url: str, tmp_path: Path) -> None:
    rows = export(url, tmp_path / "r.csv")
    assert set(rows[0]) >= {"device", "boot", "seq", "time", "bundle", "version", "variant", "delegate"}
    assert set(rows[0]) >= {"inferences", "p50_ms", "p95_ms", "p99_ms"}
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["device"], row["seq"]) for row in rows[:4]] == [
        ("pi-1", "1"),
        ("pi-1", "2"),
        ("pi-1", "3"),
        ("pi-2", "1"),
    ]
    report = make_report(1)
    assert float(rows[0]["p95_ms"]) == pytest.approx(report.latency["invoke"].percentile(95), abs=1e-6)
    assert float(rows[0]["total_p99_ms"]) == pytest.approx(report.latency["total"].percentile(99), abs=1e-6)
    assert rows[0]["delegate"] == "xnnpack"
    assert rows[0]["inferences"] == "20"
    assert datetime.fromisoformat(rows[0]["time"].replace("Z", "+00:00")).timestamp() == report.time_s
    assert rows[3]["events"] == "fallback: edgetpu -> xnnpack"


def test_csv_defuses_formulas_and_keeps_numbers_and_quotes(url: str, tmp_path: Path) -> None:
    hostile = export(url, tmp_path / "r.csv")[4]
    assert hostile["device"] == f"'{FORMULA}"
    assert hostile["runtime"] == 'a,"b"'
    assert hostile["temperature_c"] == "-5.5"
    assert hostile["p50_ms"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start: str) -> None:
    assert cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


def test_other_cells_stay_as_they_are() -> None:
    assert [cell(value) for value in ("a=b", "", -1, -0.5, None, True)] == ["a=b", "", -1, -0.5, None, 1]


def test_json_lines_have_everything_unaltered(url: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert main(["telemetry", "export", "--store", url, "--format", "jsonl", "-o", str(path)]) == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 5
    assert lines[4]["device"] == FORMULA
    report = make_report(1)
    assert lines[0]["counters"] == report.counters
    assert lines[0]["latency"]["invoke"]["n"] == report.latency["invoke"].count
    assert sum(bucket[2] for bucket in lines[0]["latency"]["invoke"]["buckets"]) == 20
    assert lines[3]["events"][0]["kind"] == "fallback"


def test_filters_choose_by_device_bundle_and_time(url: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    assert len(export(url, path, "--device", "pi-1")) == 3
    assert len(export(url, path, "--bundle", "kws")) == 1
    since = datetime.fromtimestamp(make_report(2).time_s, timezone.utc).isoformat()
    assert [row["seq"] for row in export(url, path, "--since", since)] == ["2", "3"]
    assert [row["seq"] for row in export(url, path, "--until", since, "--device", "pi-1")] == ["1"]
    assert len(export(url, path, "--version", "3", "--bundle", "ic")) == 4
    assert export(url, path, "--device", "nobody") == []


def test_stdout_takes_the_rows_and_nothing_else(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["telemetry", "export", "--store", url, "--format", "jsonl"]) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 5
    assert main(["telemetry", "export", "--store", url, "--json"]) == 2
    assert "-o FILE" in capsys.readouterr().err


def test_json_tells_what_was_written(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.csv"
    assert main(["telemetry", "export", "--store", url, "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "format": "csv", "rows": 5}


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("device,former")
    with pytest.raises(UsageError):
        export_reports([], path, "xlsx")

    def failing() -> Iterator[StoredReport]:
        yield StoredReport(1, 1.0, make_report(1))
        raise RuntimeError("in the middle")

    for file_format in FORMATS:
        with pytest.raises(RuntimeError):
            export_reports(failing(), path, file_format)
    assert path.read_text() == "device,former"
    assert {each.name for each in tmp_path.iterdir() if "r.csv" in each.name} == {"r.csv"}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        export_reports([], tmp_path / "no" / "r.csv", "csv")


def test_times_are_ago_iso_or_unix() -> None:
    now = 1_750_000_000.0
    assert parse_time("90s", now) == now - 90
    assert parse_time("2h", now) == now - 7200
    assert parse_time("1.5d", now) == now - 129600
    assert parse_time("1750000000", now) == 1_750_000_000.0
    assert parse_time("2026-01-02T03:04:05Z", now) == 1_767_323_045.0
    assert parse_time("2026-01-02T03:04:05+01:00", now) == 1_767_319_445.0
    for wrong in ("yesterday", "", "2x", "-5h", "nan", "inf", "9999999999999-01-01"):
        with pytest.raises(UsageError):
            parse_time(wrong, now)


def test_parquet_is_typed_and_whole(url: str, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "r.parquet"
    assert main(["telemetry", "export", "--store", url, "--format", "parquet", "-o", str(path)]) == 0
    table = pq.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    assert list(types)[: len(COLUMNS) - 1] == list(COLUMNS[:-1])
    assert (types["seq"], types["time"], types["unsigned"]) == ("int64", "timestamp[ms, tz=UTC]", "bool")
    assert all(types[gauge] == "double" for gauge in GAUGES)
    rows = table.to_pylist()
    assert [row["seq"] for row in rows] == [1, 2, 3, 1, 1]
    report = make_report(1)
    assert rows[0]["time"].timestamp() == report.time_s
    assert rows[0]["p95_ms"] == round(report.latency["invoke"].percentile(95), 6)
    for stage in STAGES:
        buckets = [(b["above_ms"], b["up_to_ms"], b["count"]) for b in rows[0][f"{stage}_buckets"]]
        assert buckets == list(report.latency[stage].intervals_ms())
        assert rows[0][f"{stage}_sum_ms"] == report.latency[stage].sum_ms
    assert dict(rows[0]["counters"]) == report.counters
    assert (rows[3]["events"][0]["kind"], rows[3]["device"]) == ("fallback", "pi-2")
    assert (rows[4]["device"], rows[4]["invoke_buckets"], rows[4]["temperature_c"]) == (FORMULA, None, -5.5)


def test_parquet_reads_back_with_pandas(url: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "r.parquet"
    assert main(["telemetry", "export", "--store", url, "--format", "parquet", "-o", str(path), "--bundle", "ic"]) == 0
    frame = pandas.read_parquet(path)
    assert frame.groupby("device")["inferences"].sum()["pi-1"] == 60
    assert str(frame["time"].dtype) == "datetime64[ms, UTC]"


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_memory_does_not_grow_with_the_rows(file_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
        monkeypatch.setattr("edgeloop.telemetry.export.parquet.ROW_GROUP_ROWS", 500)
    stored = StoredReport(1, 1.0, make_report(1, latency={"invoke": Histogram.of_ms([1.0, 2.0])}))

    def peak_bytes(rows: int) -> int:
        tracemalloc.start()
        try:
            assert export_reports((stored for _ in range(rows)), tmp_path / "r", file_format) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            (tmp_path / "r").unlink()

    peak_bytes(100)  # what is imported stays
    few, many = peak_bytes(500), peak_bytes(2_000)
    assert many < few * 1.2 + 50_000


def test_an_export_says_how_far_it_is(tmp_path: Path) -> None:
    heard: list[int] = []
    stored = StoredReport(1, 1.0, make_report(1))
    assert export_reports([stored] * 1_203, tmp_path / "r.jsonl", "jsonl", heard.append) == 1_203
    assert (heard[0], sum(heard)) == (500, 1_203)


def test_without_pyarrow_the_command_to_type_is_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "r.parquet"
    assert main(["telemetry", "export", "--store", url, "--format", "parquet", "-o", str(path)]) == 2
    assert "edgeloop[parquet]" in capsys.readouterr().err
    assert not path.exists()
    assert main(["telemetry", "export", "--store", url, "--format", "parquet"]) == 2
    assert "-o FILE" in capsys.readouterr().err
