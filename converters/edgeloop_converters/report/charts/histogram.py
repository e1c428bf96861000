"""Latencies as counts on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeloop_converters.report.charts.base import CHARACTER_PX, log_ticks, svg
from edgeloop_converters.report.html import Markup, tag

Intervals = Sequence[tuple[float, float, int]]


def visible(intervals: Intervals) -> list[tuple[float, float, int]]:
    """Those that a logarithmic axis can show."""
    return [(lo, hi, n) for lo, hi, n in intervals if hi > 0 and n > 0]


def extent(intervals: Intervals) -> tuple[float, float] | None:
    """(first, last) ms that a chart of these shows; None without any."""
    shown = visible(intervals)
    return (min(max(lo, hi / 1.05) for lo, hi, _ in shown), max(hi for _, hi, _ in shown)) if shown else None


def histogram_chart(
    title: str,
    intervals: Intervals,
    marks: Sequence[tuple[str, float]],
    *,
    axis: tuple[float, float] | None = None,
    width: int = 420,
    height: int = 150,
) -> Markup:
    """Counts over (low, high] intervals in ms on a logarithmic axis, with vertical marks (name, ms).

    axis: (first, last) ms, so that several charts can be compared; else that of these intervals.
    """
    shown = visible(intervals)
    own = extent(intervals)
    if own is None:
        return Markup("")
    first, last = axis or own
    left, right = math.log(first) - 0.05, math.log(last) + 0.05
    plot_bottom, plot_top = height - 22, 26
    most = max(n for _, _, n in shown)

    def x_of(ms: float) -> float:
        return round(8 + (width - 16) * (math.log(max(ms, first)) - left) / (right - left), 1)

    bars = []
    for lo, hi, n in shown:
        x0, x1 = x_of(lo) if lo > 0 else x_of(first), x_of(hi)
        h = max(1.0, (plot_bottom - plot_top) * n / most)
        bars.append(
            tag(
                "rect",
                tag("title", f"{lo:.4g} to {hi:.4g} ms: {n}"),
                x=x0,
                y=round(plot_bottom - h, 1),
                width=max(1.0, round(x1 - x0 - 0.6, 1)),
                height=round(h, 1),
                class_="bar",
            )
        )
    lines = [tag("line", x1=8, x2=width - 8, y1=plot_bottom, y2=plot_bottom, class_="axis")]
    for ms in log_ticks(first, last):
        lines.append(tag("text", f"{ms:g}", x=x_of(ms), y=height - 6, text_anchor="middle"))
        lines.append(tag("line", x1=x_of(ms), x2=x_of(ms), y1=plot_bottom, y2=plot_bottom + 4, class_="axis"))
    at = [x_of(min(ms, last)) for _, ms in marks]
    lines += [tag("line", x1=x, x2=x, y1=plot_top - 4, y2=plot_bottom, class_="mark") for x in at]
    for (name, _), x in zip(
        marks, _apart(at, [CHARACTER_PX * (len(name) + 1) for name, _ in marks], width), strict=True
    ):
        lines.append(tag("text", name, x=round(x, 1), y=plot_top - 10, class_="value"))
    return svg(width, height, title, bars, lines, smallest_px=260)


def _apart(starts: Sequence[float], widths: Sequence[float], width: float) -> list[float]:
    """Where texts begin that want to begin at `starts`, in this order: none on another, none over the right end."""
    placed: list[float] = []
    free_from = 0.0
    for start, wide in zip(starts, widths, strict=True):
        placed.append(max(start, free_from))
        free_from = placed[-1] + wide
    room_to = width
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], room_to - widths[i])
        room_to = placed[i]
    return placed
