"""Models as points: what one costs against how good it is, with the Pareto front and the part that the goals allow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeloop_converters.report.charts.base import CHARACTER_PX, linear_ticks, log_ticks, svg
from edgeloop_converters.report.html import Markup, tag

_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 40
_MARK_PX = 5.5
_SMALLEST_SPREAD = 0.01
"""Metrics closer than a point are not blown up to the whole height."""


@dataclass(frozen=True)
class Point:
    """cost: above 0, less is better. quality: a fraction, more is better. is_reference: drawn as a square."""

    name: str
    cost: float
    quality: float
    hover: str = ""
    is_reference: bool = False


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
        if not front or point.quality > front[-1].quality:
            front.append(point)
    return front


def scatter_chart(
    title: str,
    points: Sequence[Point],
    x_name: str,
    y_name: str,
    *,
    show_x: Callable[[float], str],
    least_quality: float | None = None,
    most_cost: float | None = None,
    is_choice: bool = True,
    width: int = 460,
    height: int = 300,
) -> Markup:
    """Cost on a logarithmic axis, quality in percent.

    least_quality, most_cost: the goals; where both are met is shaded. is_choice: False where models do not compete,
    so that there is no front and none is beaten.
    """
    known = [p for p in points if p.cost > 0]
    if not known:
        return Markup("")
    costs = [p.cost for p in known] + ([most_cost] if most_cost else [])
    qualities = [p.quality for p in known] + ([least_quality] if least_quality is not None else [])
    x_low, x_high = min(costs) / 1.5, max(costs) * 1.5
    spread = max(_SMALLEST_SPREAD, max(qualities) - min(qualities))
    middle = (max(qualities) + min(qualities)) / 2
    y_low, y_high = middle - 0.75 * spread, middle + 0.75 * spread
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x_of(cost: float) -> float:
        return round(_LEFT + (right - _LEFT) * math.log(cost / x_low) / math.log(x_high / x_low), 1)

    def y_of(quality: float) -> float:
        return round(bottom - (bottom - _TOP) * (quality - y_low) / (y_high - y_low), 1)

    parts: list[object] = []
    if least_quality is not None or most_cost:
        limit_x = x_of(most_cost) if most_cost else right
        limit_y = y_of(least_quality) if least_quality is not None else bottom
        parts.append(tag("rect", x=_LEFT, y=_TOP, width=limit_x - _LEFT, height=limit_y - _TOP, class_="allowed"))
        if most_cost:
            parts.append(tag("line", x1=limit_x, x2=limit_x, y1=_TOP, y2=bottom, class_="limit"))
        if least_quality is not None:
            parts.append(tag("line", x1=_LEFT, x2=right, y1=limit_y, y2=limit_y, class_="limit"))
        parts.append(tag("text", "meets the goals", x=_LEFT + 6, y=_TOP + 13, class_="good"))
    for tick in linear_ticks(y_low * 100, y_high * 100):
        y = y_of(tick / 100)
        parts.append(tag("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{tick:g} %", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    free_from = -math.inf
    for tick in log_ticks(x_low, x_high, 5):
        x, half = x_of(tick), CHARACTER_PX * len(show_x(tick)) / 2
        if x - half < free_from or x + half > width:
            continue
        free_from = x + half + 6
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", show_x(tick), x=x, y=bottom + 16, text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(tag("line", x1=_LEFT, x2=_LEFT, y1=_TOP, y2=bottom, class_="axis"))
    parts.append(tag("text", f"{x_name} →", x=right, y=height - 6, text_anchor="end"))
    parts.append(tag("text", f"↑ {y_name}", x=4, y=_TOP - 4))
    front = pareto_front(known) if is_choice else known
    steps = [(x_of(p.cost), y_of(p.quality)) for p in front]
    corners = steps[:1]
    for (_, y0), (x1, y1) in itertools.pairwise(steps):
        corners += [(x1, y0), (x1, y1)]
    if is_choice and len(corners) > 1:
        parts.append(tag("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in corners), class_="front"))
    parts += _marks(known, front, x_of, y_of, right)
    return svg(width, height, title, parts, smallest_px=300)


def _marks(
    points: Sequence[Point], front: Sequence[Point], x_of: Callable[[float], float], y_of: Callable[[float], float],
    right: float,
) -> list[Markup]:  # fmt: skip
    """Filled on the front, hollow where another model beats it in both; names cover neither each other nor a mark."""
    marks, labels = [], []
    places = {id(p): (x_of(p.cost), y_of(p.quality)) for p in points}
    taken: list[tuple[float, float, float]] = []  # left, right, baseline
    for point in sorted(points, key=lambda p: (-p.quality, p.cost)):
        x, y = places[id(point)]
        kind = "point" if point in front else "point beaten"
        if point.is_reference:
            side = 2 * _MARK_PX - 1
            mark = tag("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, class_=f"{kind} reference")
        else:
            mark = tag("circle", cx=x, cy=y, r=_MARK_PX, class_=kind)
        wide = CHARACTER_PX * len(point.name) + 4
        start = x + _MARK_PX + 4 if x + _MARK_PX + 4 + wide <= right else x - _MARK_PX - 4 - wide
        dots = [(cx - _MARK_PX, cx + _MARK_PX, cy + 4) for cx, cy in places.values()]
        at = y + 4
        while any(start < t[1] and t[0] < start + wide and abs(at - t[2]) < 12 for t in (*taken, *dots)):
            at += 12
        taken.append((start, start + wide, at))
        marks.append(tag("g", tag("title", point.hover or point.name), mark))
        labels.append(tag("text", point.name, x=round(start, 1), y=round(at, 1), class_="value halo"))
    return [*marks, *labels]
