"""What tensors hold against what their codes can say, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop_converters.report.charts.base import ROW_UNITS, Row, rows_of
from edgeloop_converters.report.html import Markup, tag


@dataclass(frozen=True)
class RangeRow:
    """held: (min, max) of the values. codes: (min, max) that can be said. shown: written at the end of the row."""

    label: str
    held: tuple[float, float]
    codes: tuple[float, float]
    shown: str
    hover: str = ""
    is_bad: bool = False


def range_chart(title: str, rows: Sequence[RangeRow]) -> Markup:
    """Every row has a scale of its own, so that a small tensor is seen as well as a large one; a tick marks 0.

    The broad bar is what codes reach, the thin one what the values need; it is heavy where a bad one sticks out.
    """
    drawn = [Row(r.label, _drawn(r), f"{r.shown} !" if r.is_bad else r.shown, r.hover) for r in rows]
    return rows_of(title, drawn) if drawn else Markup("")


def _drawn(one: RangeRow) -> list[Markup]:
    low = min(one.held[0], one.codes[0], 0.0)
    span = (max(one.held[1], one.codes[1], 0.0) - low) or 1.0

    def bar(ends: tuple[float, float], thickness: float, kind: str) -> Markup:
        left, right = (ROW_UNITS * (end - low) / span for end in ends)
        wide = max(2.0, right - left)
        return tag(
            "rect", x=round(min(left, ROW_UNITS - wide), 1), y=10 - thickness / 2, width=round(wide, 1),
            height=thickness, class_=kind,
        )  # fmt: skip

    zero = round(ROW_UNITS * -low / span, 1)
    parts = [bar(one.codes, 14, "reach"), bar(one.held, 3, "held")]
    for outside in ((one.held[0], one.codes[0]), (one.codes[1], one.held[1])):
        if outside[1] > outside[0]:
            parts.append(bar(outside, 7, "outside") if one.is_bad else bar(outside, 3, "held"))
    return [*parts, tag("line", x1=zero, x2=zero, y1=0, y2=20, class_="zero")]
