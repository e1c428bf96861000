"""Exports: what is in the store, in files that spreadsheets and scripts take."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DataError, UsageError
from edgeloop.telemetry.export import COLUMNS, cell, export_reports, parse_since
from edgeloop.telemetry.store import open_store
from support.collecting import make_report, with_event

FORMULA = '=HYPERLINK("http://evil","x")'


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    store = open_store(url)
    store.insert([make_report(n) for n in range(1, 4)])
    store.insert([with_event(make_report(1, device="pi-2", bundle="kws"))])
    store.insert([make_report(1, device=FORMULA, runtime='a,"b"\nc', gauges={"temperature_c": -5.5}, latency={})])
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
    assert hostile["runtime"] == 'a,"b"\nc'
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


def test_a_file_appears_whole_or_not_at_all(url: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("device,former")
    store = open_store(url)
    with pytest.raises(UsageError):
        export_reports(store, path, "xlsx")

    def failing(*_a: object) -> object:
        yield from list(type(store).reports(store))[:1]
        raise RuntimeError("in the middle")

    store.reports = failing  # type: ignore[assignment,method-assign]
    with pytest.raises(RuntimeError):
        export_reports(store, path, "csv")
    store.close()
    assert path.read_text() == "device,former"
    assert {each.name for each in tmp_path.iterdir() if "r.csv" in each.name} == {"r.csv"}


def test_a_place_that_cannot_be_written_is_one_line(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    with pytest.raises(DataError, match="cannot write"):
        export_reports(store, tmp_path / "no" / "r.csv", "csv")
    store.close()


def test_times_are_ago_iso_or_unix() -> None:
    now = 1_750_000_000.0
    assert parse_since("90s", now) == now - 90
    assert parse_since("2h", now) == now - 7200
    assert parse_since("1.5d", now) == now - 129600
    assert parse_since("1750000000", now) == 1_750_000_000.0
    assert parse_since("2026-01-02T03:04:05Z", now) == 1_767_323_045.0
    assert parse_since("2026-01-02T03:04:05+01:00", now) == 1_767_319_445.0
    for wrong in ("yesterday", "", "2x", "-5h", "nan", "inf", "9999999999999-01-01"):
        with pytest.raises(UsageError):
            parse_since(wrong, now)
