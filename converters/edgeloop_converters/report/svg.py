"""Charts as inline SVG, built from values. Colors come from the page's CSS, so that light and dark both work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop_converters.report.html import Markup, tag

_CHARACTER_PX = 6.3
_CAPITAL_PX = 7.6
_MAX_NUMBERED_CLASSES = 20


def svg(width: float, height: float, title: str, *content: object) -> Markup:
    """A figure that scales down on narrow screens; `title` is what a screen reader says."""
    return tag(
        "svg",
        tag("title", title),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        style=f"max-width:{width:g}px;min-width:{min(width, 420):g}px",
        xmlns="http://www.w3.org/2000/svg",
    )


@dataclass(frozen=True)
class Bar:
    """`value` sets the length; `shown` is written beside it; `hover` is its tooltip."""

    label: str
    value: float
    shown: str
    hover: str = ""
    is_bad: bool = False


def bar_chart(title: str, bars: Sequence[Bar], *, width: int = 860, row: int = 20) -> Markup:
    """Horizontal bars from 0, one per row."""
    if not bars:
        return Markup("")
    label_px = min(0.42 * width, 12 + _CAPITAL_PX * max(len(b.label) for b in bars))
    shown_px = 14 + _CHARACTER_PX * max(len(b.shown) for b in bars)
    room = width - label_px - shown_px
    most = max((b.value for b in bars if b.value > 0), default=1.0)
    parts = []
    for i, bar in enumerate(bars):
        y = i * row
        length = max(1.5, room * max(0.0, bar.value) / most)
        parts.append(
            tag(
                "g",
                tag("title", bar.hover or f"{bar.label}: {bar.shown}"),
                tag("text", _shorten(bar.label, label_px - 8), x=label_px - 8, y=y + row * 0.7, text_anchor="end"),
                tag(
                    "rect",
                    x=label_px,
                    y=y + 3,
                    width=round(length, 1),
                    height=row - 6,
                    rx=2,
                    class_="bad" if bar.is_bad else "bar",
                ),
                tag("text", bar.shown, x=round(label_px + length + 6, 1), y=y + row * 0.7, class_="value"),
            )
        )
    return svg(width, len(bars) * row, title, parts)


def confusion_chart(title: str, matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """Rows are the true class, columns the predicted one; the shade is the share of the row; numbers up to 20."""
    n = len(matrix)
    numbered = n <= _MAX_NUMBERED_CLASSES
    cell = 44 if n <= 12 else 32 if numbered else max(4, 640 // n)
    label_px = 14 + _CHARACTER_PX * min(16, max((len(x) for x in labels), default=1)) if numbered else 16
    top = label_px if numbered else 16
    cells = []
    for r, counts in enumerate(matrix):
        total = sum(counts) or 1
        for c, count in enumerate(counts):
            if not count and not numbered:
                continue
            share = count / total
            where = {"x": round(label_px + c * cell, 1), "y": round(top + r * cell, 1)}
            hover = tag("title", f"{_name(labels, r)} read as {_name(labels, c)}: {count} of {sum(counts)}")
            kind = "right" if r == c else "wrong"
            opacity = round(0.06 + 0.94 * share, 3) if count else 0.03
            cells.append(
                tag("rect", hover, **where, width=cell - 1, height=cell - 1, class_=kind, fill_opacity=opacity)
            )
            if numbered and count:
                cells.append(
                    tag(
                        "text",
                        count,
                        x=where["x"] + cell / 2,
                        y=where["y"] + cell / 2 + 4,
                        text_anchor="middle",
                        class_="on" if share > 0.5 else "in",
                        pointer_events="none",
                    )
                )
    names = []
    if numbered:
        for i in range(n):
            middle = i * cell + cell / 2
            name = _shorten(_name(labels, i), label_px - 10)
            names.append(tag("text", name, x=label_px - 8, y=top + middle + 4, text_anchor="end"))
            x, y = label_px + middle + 4, top - 8
            names.append(tag("text", name, x=x, y=y, transform=f"rotate(-90 {x:g} {y:g})"))
    size = label_px + n * cell
    return svg(size, top + n * cell, title, cells, names)


def histogram_chart(
    title: str,
    intervals: Sequence[tuple[float, float, int]],
    marks: Sequence[tuple[str, float]],
    *,
    width: int = 420,
    height: int = 150,
) -> Markup:
    """Counts over (low, high] intervals in ms on a logarithmic axis, with vertical marks (name, ms)."""
    shown = [(lo, hi, n) for lo, hi, n in intervals if hi > 0 and n > 0]
    if not shown:
        return Markup("")
    first = min(max(lo, hi / 1.05) for lo, hi, _ in shown)
    last = max(hi for _, hi, _ in shown)
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
    axis = [tag("line", x1=8, x2=width - 8, y1=plot_bottom, y2=plot_bottom, class_="axis")]
    for ms in _ticks(first, last):
        axis.append(tag("text", f"{ms:g}", x=x_of(ms), y=height - 6, text_anchor="middle"))
        axis.append(tag("line", x1=x_of(ms), x2=x_of(ms), y1=plot_bottom, y2=plot_bottom + 4, class_="axis"))
    lines = []
    free_from = -1e9
    for name, ms in marks:
        x = x_of(ms)
        lines.append(tag("line", x1=x, x2=x, y1=plot_top - 4, y2=plot_bottom, class_="mark"))
        at = min(max(x, free_from), width - 8 - _CHARACTER_PX * len(name))
        lines.append(tag("text", name, x=round(at, 1), y=plot_top - 10, class_="value"))
        free_from = at + _CHARACTER_PX * (len(name) + 1)
    return svg(width, height, title, bars, axis, lines)


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers in [low, high]: 1-2-5 steps, or finer where the range is narrow."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[float, ...] = (1, 2, 5) if high / low > 8 else (1, 1.2, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [float(f"{s * 10.0**d:.4g}") for d in decades for s in steps]
    ticks = [t for t in ticks if low <= t <= high]
    return ticks[:: max(1, math.ceil(len(ticks) / 6))] or [float(f"{math.sqrt(low * high):.2g}")]


def _name(labels: Sequence[str], i: int) -> str:
    return labels[i] if i < len(labels) and labels[i] else str(i)


def _shorten(text: str, room_px: float) -> str:
    most = max(4, int(room_px / _CHARACTER_PX))
    return text if len(text) <= most else "…" + text[-(most - 1) :]
