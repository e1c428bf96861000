"""report.html stands alone, escapes everything and shows what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop.telemetry.histogram import Histogram
from edgeloop_converters.report import render, write_report
from edgeloop_converters.report.html import tag
from edgeloop_converters.report.words import milliseconds, percent, size
from support.reported import HOSTILE, Checker, checked, report


def test_the_page_shows_the_numbers_and_reaches_for_nothing_outside() -> None:
    latency = {"invoke": Histogram.of_ms([1.0, 2.0, 4.0]), "total": Histogram.of_ms([2.0, 3.0, 5.0])}
    page = render(report(), device="pi-1", latency=latency)
    text = checked(page)
    for expected in (
        "75.50 %",
        "75.12 %",
        "96.50 %",
        "95.6 kB",
        "all goals met",
        "p95 of a frame, all stages, on pi-1",
        "31.2 dB",
        "p50 and p95 are of the model alone (invoke), ",
        "measured on this host (x86-64), not the target, xnnpack, 1 thread, n = 500.",
        "read as RGB",
    ):
        assert expected in text
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "@import" not in page
    assert "://" not in page


def test_a_missed_goal_is_said_with_its_reason() -> None:
    gate = {"passed": False, "reasons": ["accuracy drops by 2 pt"], "unverified": []}
    text = checked(render(report(gate=gate, next_steps=["--effort best"])))
    assert "goals not met" in text
    assert "What to try next, one of:" in text
    assert "--effort best" in text
    assert "accuracy drops by 2 pt" in text
    unverified = {
        "passed": True, "verdict": "met where judged; p95 not judged", "reasons": [],
        "unverified": ["p95 <= 20 ms: not measured on the target"],
    }  # fmt: skip
    assert "goals met where judged; p95 not judged" in checked(render(report(gate=unverified)))
    guesses = {"passed": True, "verdict": "met, but the model does no better than guessing", "guesses": True}
    page = render(report(gate=guesses))
    assert "met, but the model does no better than guessing" in checked(page)
    assert "verdict passed" not in page


def test_goals_that_are_met_on_data_that_look_wrong_are_no_success() -> None:
    swapped = {"severity": "severe", "what": "another contract scores clearly better", "fix": "--color rgb"}
    page = render(report(findings=[swapped]))
    text = checked(page)
    assert "all goals met, on data or a contract that look wrong" in text
    assert text.count("another contract scores clearly better") == 2, "beside the verdict, and among the findings"
    assert "verdict passed" not in page


def test_agreement_that_is_the_metric_has_one_column() -> None:
    metrics = {"metric": "agreement", "float": 1.0, "this": 0.92, "agreement": 0.92, "n": 50}
    one = {**report()["variants"][0], "metrics": metrics}
    assert render(report(variants=[one])).count(">agreement</th>") == 1


def test_hostile_text_everywhere_is_only_text() -> None:
    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: poison(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v) for v in value]
        return HOSTILE if isinstance(value, str) and key not in ("metric",) else value

    page = render(poison(report()), device=HOSTILE, latency={HOSTILE: Histogram.of_ms([1.0])})
    text = checked(page)
    assert '<script>alert("x")' in text


@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_any_text_is_escaped(text: str) -> None:
    page = tag("p", text, title=text)
    parser = Checker()
    parser.feed(page)
    assert parser.problems == []
    assert page.count("<") == 2


@pytest.mark.parametrize("missing", sorted(report()))
def test_whatever_is_missing_is_left_out(missing: str) -> None:
    values = report()
    del values[missing]
    checked(render(values))
    checked(render({}))


def test_many_classes_and_layers_stay_readable() -> None:
    n = 150
    matrix = [[9 if r == c else int((r + 1) % n == c) for c in range(n)] for r in range(n)]
    per_op = [
        {"index": i, "name": "ADD", "output": f"t{i}", "mse": 0.0, "max_abs": 0.0, "snr_db": float(i)}
        for i in range(200)
    ]
    page = render(report(confusion={"labels": [], "matrix": matrix}, per_op=per_op))
    assert "80 worst of 200" in checked(page)
    assert page.count("<rect") < 120


def test_files_are_written_whole_and_json_has_no_nan(tmp_path: Path) -> None:
    json_path, html_path = tmp_path / "deep" / "report.json", tmp_path / "deep" / "report.html"
    write_report(json_path, html_path, report(extra=math.nan))
    assert json.loads(json_path.read_text())["extra"] is None
    assert html_path.read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in json_path.parent.iterdir()) == ["report.html", "report.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="report"):
        write_report(tmp_path / "file" / "r.json", tmp_path / "file" / "r.html", report())


def test_numbers_are_written_with_their_unit() -> None:
    assert (percent(0.755), percent(None)) == ("75.50 %", "")
    assert (milliseconds(0.13549), milliseconds(None)) == ("0.135 ms", "")
    assert (size(95568), size(12_345_678), size(12), size(None)) == ("95.6 kB", "12.3 MB", "12 B", "")


def test_findings_on_the_data_and_the_cache_are_shown() -> None:
    finding = {"check": "leak", "severity": "severe", "what": f"7 of 50 {HOSTILE}", "fix": "give --eval", "numbers": {}}
    page = render(report(findings=[finding], cache={"hits": 3, "misses": 1}))
    assert "<b>severe</b>: 7 of 50 &lt;script&gt;" in page
    assert "-&gt; give --eval" in page
    assert "3 of 4 from the cache" in page
    assert "from the cache" not in render(report(cache={"hits": 0, "misses": 0}))
    assert "from the cache" not in render(report(cache=None))
