"""What every chart needs: the figure, text that fits, and round numbers for an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop_converters.report.html import Markup, tag

CHARACTER_PX = 6.3
_SMALLEST_PX = 340


def svg(width: float, height: float, title: str, *content: object, smallest_px: float = _SMALLEST_PX) -> Markup:
    """A figure that scales down to `smallest_px` and scrolls below it; `title` is what a screen reader says."""
    return tag(
        "svg",
        tag("title", title),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        style=f"max-width:{width:g}px;min-width:{min(width, smallest_px):g}px",
    )


ROW_UNITS = 1000
"""Width of a row's drawing in its own units; on the page it is as wide as there is room."""


@dataclass(frozen=True)
class Row:
    """A line of a chart that is as wide as the page: name, drawing in [0, ROW_UNITS] x [0, 20], text, tooltip."""

    label: str
    drawn: Sequence[Markup]
    shown: str
    hover: str = ""


def rows_of(title: str, rows: Sequence[Row]) -> Markup:
    """Rows whose names and texts keep their size on any screen; only the drawings stretch, so they hold no text."""
    parts = []
    for row in rows:
        drawing = tag(
            "svg", row.drawn, viewBox=f"0 0 {ROW_UNITS} 20", preserveAspectRatio="none", aria_hidden="true",
        )  # fmt: skip
        shown = tag("span", row.shown, class_="shown")
        parts.append(tag("div", tag("span", row.label, class_="label"), drawing, shown, title=row.hover or None))
    return tag("div", parts, class_="rows", role="group", aria_label=title)


def shorten(text: str, room_px: float, character_px: float = CHARACTER_PX) -> str:
    """The end of a long name: that is where layers differ."""
    most = max(4, int(room_px / character_px))
    return text if len(text) <= most else "…" + text[-(most - 1) :]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """A few round numbers in [low, high], both above 0: 1-2-5 steps, or finer where the range is narrow."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[float, ...] = (1, 2, 5) if high / low > 8 else (1, 1.2, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [float(f"{s * 10.0**d:.4g}") for d in decades for s in steps]
    ticks = [t for t in ticks if low <= t <= high]
    return ticks[:: max(1, math.ceil(len(ticks) / most))] or [float(f"{math.sqrt(low * high):.2g}")]


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """A few round numbers in [low, high] with low < high."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(s * unit for s in (1, 2, 5, 10) if s * unit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]
