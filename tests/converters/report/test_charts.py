"""Charts draw what they are given, and survive the smallest and oddest values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop_converters.report.charts import (
    Bar,
    Cell,
    Point,
    RangeRow,
    Rung,
    bar_chart,
    bullet,
    confusion_chart,
    histogram_chart,
    ladder_chart,
    range_chart,
    scatter_chart,
    share_bar,
    strip_chart,
)
from edgeloop_converters.report.charts.base import linear_ticks, log_ticks
from edgeloop_converters.report.charts.scatter import pareto_front
from support.reported import HOSTILE, checked

FINITE = st.floats(-1e9, 1e9, allow_nan=False)
POSITIVE = st.floats(1e-6, 1e12)
FRACTION = st.floats(0, 1)


def test_nothing_is_drawn_of_nothing() -> None:
    assert bar_chart("x", []) == ""
    assert range_chart("x", []) == ""
    assert histogram_chart("x", [], []) == ""
    assert ladder_chart("x", []) == ""
    assert scatter_chart("x", [Point("a", 0.0, 0.5)], "x", "y", show_x=str) == ""


def test_odd_values_are_drawn() -> None:
    checked(bar_chart("x", [Bar("a", -3.0, "-3 dB"), Bar("b" * 300, 0.0, "0")], mark=10.0))
    checked(histogram_chart("x", [(0.0, 0.0, 3), (1.0, 1.04, 1)], [("p50", 0.0)]))
    checked(histogram_chart("x", [(1e-6, 1.1e-6, 1), (1e6, 1.1e6, 2)], [("p50", 1.0)], axis=(1e-6, 2e6)))
    checked(confusion_chart("x", [[0, 0], [0, 0]], []))
    checked(range_chart("x", [RangeRow("zero", (0.0, 0.0), (0.0, 0.0), "0")]))


@given(st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), min_size=1, max_size=4))
def test_any_range_stays_inside_its_row(rows: list[tuple[float, float, float, float]]) -> None:
    drawn = [RangeRow("t", (min(a, b), max(a, b)), (min(c, d), max(c, d)), "", "", True) for a, b, c, d in rows]
    page = range_chart("x", drawn)
    checked(page)
    for x, width in re.findall(r'<rect x="([-\d.e+]+)" y="[^"]*" width="([-\d.e+]+)"', page):
        assert float(x) >= -0.1
        assert float(x) + float(width) <= 1000.2


@given(st.lists(st.tuples(POSITIVE, FRACTION), min_size=1, max_size=8), FRACTION, POSITIVE)
def test_any_models_are_points(models: list[tuple[float, float]], least: float, most: float) -> None:
    points = [Point(f"m{i} {HOSTILE}", cost, quality) for i, (cost, quality) in enumerate(models)]
    page = scatter_chart("x", points, "size", "accuracy", show_x=str, least_quality=least, most_cost=most)
    checked(page)
    assert page.count("<circle") == len(points)
    front = pareto_front(points)
    assert front
    for one in points:
        if one not in front:
            assert any(f.cost <= one.cost and f.quality >= one.quality for f in front)


def test_the_front_is_what_no_other_beats_in_both() -> None:
    points = [Point("big", 300, 0.90), Point("small", 50, 0.80), Point("worse", 90, 0.79), Point("mid", 100, 0.88)]
    assert [p.name for p in pareto_front(points)] == ["small", "mid", "big"]
    assert pareto_front([Point("a", 1, 0.5), Point("b", 1, 0.6)])[0].name == "b"


def test_names_of_points_on_one_spot_do_not_cover_each_other() -> None:
    page = scatter_chart("x", [Point(n, 100, 0.9) for n in ("int8", "int8-b", "int8-c")], "x", "y", show_x=str)
    heights = re.findall(r'<text[^>]* y="([\d.]+)" class="value halo"', page)
    assert len(set(heights)) == 3


def test_numbers_on_an_axis_do_not_cover_each_other() -> None:
    points = [Point("a", 5360, 0.9), Point("b", 6528, 0.95)]
    page = scatter_chart("x", points, "size", "accuracy", show_x=lambda n: f"{n / 1000:.6f} kilobytes")
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="276[^"]*" text-anchor="middle"', page)]
    assert places and all(b - a > 6.3 * 18 for a, b in itertools.pairwise(places))


def test_a_name_does_not_stand_under_the_mark_of_another() -> None:
    page = scatter_chart("x", [Point("int8-16", 100, 0.9), Point("int8-32", 106, 0.9)], "x", "y", show_x=str)
    (first, *_) = re.findall(r'<text x="[\d.]+" y="([\d.]+)" class="value halo">int8-16', page)
    (mark, *_) = re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', page)
    assert float(first) - float(mark) >= 12
    assert page.rindex("<circle") < page.index("value halo")


@given(st.lists(st.tuples(FRACTION, FRACTION, st.booleans()), min_size=1, max_size=6), st.none() | FRACTION)
def test_any_ladder_is_drawn(rungs: list[tuple[float, float, bool]], goal: float | None) -> None:
    page = ladder_chart("x", [Rung(HOSTILE, a, b, HOSTILE, kept) for a, b, kept in rungs], goal=goal)
    checked(page)
    assert page.count("dropped") == 2 * sum(not kept for _, _, kept in rungs)


@given(st.floats(0, 1e9), st.floats(1e-6, 1e9), st.booleans())
def test_a_bullet_says_whether_the_limit_is_kept(value: float, limit: float, is_met: bool) -> None:
    page = bullet("x", value, limit, is_met=is_met)
    checked(page)
    assert ('class="bar"' in page) is is_met


def test_the_chosen_op_holds_its_label() -> None:
    cells = [Cell("edgetpu", "T", "a"), Cell("cpu", "C", "b"), Cell("cpu", "C", "c")]
    page = strip_chart("ops", cells, {1: f"first: {HOSTILE}"})
    text = checked(page)
    assert page.count("chosen") == 1
    assert "first: <script>" in text
    checked(share_bar("x", [("edgetpu", 1.0, "all")]))


@pytest.mark.parametrize(
    ("ticks", "low", "high"),
    [(log_ticks, 0.08, 0.3), (log_ticks, 1e-5, 1e6), (log_ticks, 5.0, 5.01), (linear_ticks, 75.95, 76.04)],
)
def test_ticks_are_few_and_inside(ticks: Callable[[float, float], list[float]], low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low * (1 - 1e-2) <= t <= high * (1 + 1e-2) for t in found)


@given(st.lists(st.floats(0.001, 100), min_size=3, max_size=3), st.floats(0.01, 50))
def test_names_of_percentiles_stand_apart_and_inside(ms: list[float], last: float) -> None:
    marks = [(f"p{p}", value) for p, value in zip((50, 95, 99), sorted(ms), strict=True)]
    page = histogram_chart("x", [(0.001, 0.002, 5), (last, last * 1.05, 1)], marks)
    at = [float(x) for x in re.findall(r'<text x="([-\d.]+)" y="16" class="value"', page)]
    assert len(at) == 3
    assert all(b - a >= 24 for a, b in itertools.pairwise(at))
    assert at[0] >= 0 and at[-1] <= 420 - 24
