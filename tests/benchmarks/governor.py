"""The governor against a fixed model: on a board in software under three synthetic loads, and on a recorded load.

A table, and a picture. Time is simulated, so the numbers are the same on every machine. Bound from the design: the
latency budget held in at least 99 % of the windows (of a second; of the recording, half a second) where the fixed model
holds it in at most 60 %; at most one switch per dwell.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _timing import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))

from edgeloop_agent.activation.levels import Law, ladder
from edgeloop_agent.activation.load_trace import read_trace
from edgeloop_agent.activation.replay import Course, replay
from support.governed_board import LAW, SCENARIOS, run

WIDTH, LEFT, RIGHT = 860, 64, 12
FIXED, GOVERNED, LIMIT = "#b07a4f", "#1f6f8b", "#888888"
RECORDED = REPOSITORY / "samples" / "smart_camera" / "load.jsonl"
RECORDED_LAW = Law(latency_budget_ms=60.0, max_stride=4)


@dataclass(frozen=True)
class Race:
    """The same load with and without governor."""

    name: str
    law: Law
    fixed: Course
    governed: Course


@dataclass(frozen=True)
class Panel:
    """A curve of each side over time. values: a column of a Course; limit: the line it should stay below."""

    label: str
    height: float
    values: Callable[[Course], Sequence[float]]
    limit: Callable[[Law], float | None]
    lowest: float
    highest: float


CURVES = (
    Panel("p95 ms", 120, lambda course: course.p95_ms, lambda law: law.latency_budget_ms, 0, 130),
    Panel("degrees C", 70, lambda course: course.temperature_c, lambda law: law.temperature_limit_c, 30, 105),
)
LEVEL_HEIGHT = 60


def races() -> list[Race]:
    found = [Race(s.name, LAW, run(s, governed=False), run(s)) for s in SCENARIOS]
    trace, law = read_trace(RECORDED), RECORDED_LAW
    levels = ladder(trace.programs, law)
    sides = (replay(trace, levels, law, governed=governed) for governed in (False, True))
    return [*found, Race("recorded: other programs on a shared host", law, *sides)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, default=REPOSITORY / "docs" / "governor.svg")
    path = parser.parse_args().svg
    every = races()
    print("| load | fixed holds | governed holds | switches | shortest gap | oscillations | metric |")
    print("|---|---|---|---|---|---|---|")
    for race in every:
        fixed, governed = race.fixed, race.governed
        gap = math.inf if governed.shortest_gap_s is None else governed.shortest_gap_s
        print(
            f"| {race.name} | {fixed.held:.1%} | {governed.held:.1%} | {len(governed.switches)} in "
            f"{governed.times_s[-1]:.0f} s | {gap:.1f} s | {governed.oscillations(10 * race.law.dwell_s)} | "
            f"{governed.metric:.3f} ({fixed.metric:.2f} fixed) |"
        )
    path.write_text(picture(every))
    print(f"wrote {path.name}", file=sys.stderr)


def picture(every: Sequence[Race]) -> str:
    """An SVG: for each load p95 latency, temperature (where it was measured) and level over time."""
    parts, top = [], 30.0
    for race in every:
        fixed, governed = race.fixed, race.governed
        title = f"{race.name}: budget held {fixed.held:.0%} fixed, {governed.held:.1%} governed"
        parts.append(_text(LEFT, top, title, "font-weight='bold'"))
        top += 8
        x = _scale(0, governed.times_s[-1], LEFT, WIDTH - RIGHT)
        for panel in CURVES:
            if any(panel.values(fixed)):
                parts += [*_frame(top, panel.height, panel.label), *_curves(race, panel, top, x)]
                top += panel.height + 8
        parts += [*_frame(top, LEVEL_HEIGHT, ""), *_levels(governed, top, x)]
        top += LEVEL_HEIGHT + 8
        seconds = governed.times_s[-1]
        parts += [_text(x(t), top + 6, f"{t:.0f} s", "text-anchor='middle'") for t in (0, seconds / 2, seconds)]
        top += 34
    legend = (("fixed model", FIXED), ("governed", GOVERNED), ("limit", LIMIT))
    for i, (name, color) in enumerate(legend):
        parts.append(f"<rect x='{LEFT + 130 * i}' y='6' width='14' height='4' fill='{color}'/>")
        parts.append(_text(LEFT + 130 * i + 20, 12, name))
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {top:.0f}' font-family='sans-serif' "
        f"font-size='11' fill='#333'><rect width='100%' height='100%' fill='#fff'/>\n{body}\n</svg>\n"
    )


Scale = Callable[[float], float]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (end - start) * (min(max(value, low), high) - low) / (high - low)


def _curves(race: Race, panel: Panel, top: float, x: Scale) -> list[str]:
    y = _scale(panel.lowest, panel.highest, top + panel.height, top)
    limit = panel.limit(race.law)
    sides = ((race.fixed, FIXED), (race.governed, GOVERNED))
    lines = [_line(course.times_s, panel.values(course), x, y, color) for course, color in sides]
    return lines if limit is None else [_rule(y(limit), f"{limit:g}"), *lines]


def _levels(governed: Course, top: float, x: Scale) -> list[str]:
    used = max(*governed.level, 2)
    y = _scale(0, used, top + 10, top + LEVEL_HEIGHT - 6)
    shown = governed.levels[: used + 1]
    names = [_text(LEFT - 6, y(i) + 4, at.program.name, "text-anchor='end'") for i, at in enumerate(shown)]
    return [*names, _line(governed.times_s, governed.level, x, y, GOVERNED, is_stepped=True)]


def _frame(top: float, height: float, label: str) -> list[str]:
    return [
        f"<rect x='{LEFT}' y='{top}' width='{WIDTH - LEFT - RIGHT}' height='{height}' fill='none' stroke='#ddd'/>",
        _text(LEFT - 6, top + 12, label, "text-anchor='end'") if label else "",
    ]


def _rule(y: float, text: str) -> str:
    line = f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}' stroke='{LIMIT}' stroke-dasharray='4 3'/>"
    return line + _text(LEFT - 6, y + 4, text, "text-anchor='end'")


def _line(
    times: Sequence[float], values: Sequence[float], x: Scale, y: Scale, color: str, *, is_stepped: bool = False
) -> str:
    points = []
    every = max(1, len(times) // 300)  # as many as can be seen
    for i, (t, value) in enumerate(zip(times, values, strict=True)):
        if is_stepped:
            if 0 < i < len(times) - 1 and value == values[i - 1]:
                continue
            points += [f"{x(t):.1f},{y(values[i - 1] if i else value):.1f}"]
        elif i % every:
            continue
        points.append(f"{x(t):.1f},{y(value):.1f}")
    return f"<polyline fill='none' stroke='{color}' stroke-width='1.4' points='{' '.join(points)}'/>"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{text}</text>"


if __name__ == "__main__":
    main()
