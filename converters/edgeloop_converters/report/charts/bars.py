"""Horizontal bars, and the bullet that sets one number against its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop_converters.report.charts.base import ROW_UNITS, Row, rows_of, svg
from edgeloop_converters.report.html import Markup, tag


@dataclass(frozen=True)
class Bar:
    """`value` sets the length; `shown` is written beside it; `hover` is its tooltip."""

    label: str
    value: float
    shown: str
    hover: str = ""
    is_bad: bool = False


def bar_chart(title: str, bars: Sequence[Bar], *, mark: float | None = None) -> Markup:
    """Horizontal bars from 0, one per row. mark: where a vertical line goes. Bad ones are marked "!" as well."""
    if not bars:
        return Markup("")
    most = max([b.value for b in bars if b.value > 0] + ([mark] if mark else []), default=1.0) or 1.0
    rows = []
    for bar in bars:
        length = round(max(2.0, ROW_UNITS * max(0.0, bar.value) / most), 1)
        drawn = [tag("rect", x=0, y=3, width=length, height=14, class_="bad" if bar.is_bad else "bar")]
        if mark:
            at = round(ROW_UNITS * mark / most, 1)
            drawn.append(tag("line", x1=at, x2=at, y1=0, y2=20, class_="mark"))
        rows.append(Row(bar.label, drawn, f"{bar.shown} !" if bar.is_bad else bar.shown, bar.hover))
    return rows_of(title, rows)


def bullet(title: str, value: float, limit: float, *, is_met: bool, at_least: bool = False, width: int = 220) -> Markup:
    """One number against its limit: a track, a bar up to the value, a line at the limit. at_least: more is better."""
    low = min(value, limit, 0.0)
    if at_least:  # what counts is near 1
        low = min(value, limit) - 0.5 * (1.0 - min(value, limit))
    high = max(1.0 if at_least else limit * 1.35, value, low + 1e-9)

    def x_of(number: float) -> float:
        return round(2 + (width - 4) * (number - low) / (high - low), 1)

    start = x_of(max(low, 0.0)) if not at_least else x_of(low)
    end = x_of(value)
    left, right = min(start, end), max(start, end)
    return svg(
        width,
        20,
        title,
        tag("rect", x=2, y=6, width=width - 4, height=8, rx=4, class_="track"),
        tag(
            "rect",
            x=left,
            y=6,
            width=max(2.0, round(right - left, 1)),
            height=8,
            rx=3,
            class_="bar" if is_met else "bad",
        ),
        tag("line", x1=x_of(limit), x2=x_of(limit), y1=1, y2=19, class_="limit"),
        smallest_px=120,
    )
