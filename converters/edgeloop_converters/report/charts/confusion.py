"""A confusion matrix as shaded cells."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop_converters.report.charts.base import CHARACTER_PX, shorten, svg
from edgeloop_converters.report.html import Markup, tag

_MAX_NUMBERED_CLASSES = 20
_MIDDLE, _DARK = 0.6, 0.8
"""Shares from which the number in a cell is drawn in another color, in dark and in light."""


def confusion_chart(title: str, matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """Rows are the true class, columns the predicted one; the shade is the share of the row; numbers up to 20."""
    n = len(matrix)
    numbered = n <= _MAX_NUMBERED_CLASSES
    cell = 44 if n <= 12 else 32 if numbered else max(4, 640 // n)
    label_px = 14 + CHARACTER_PX * min(16, max((len(x) for x in labels), default=1)) if numbered else 16
    cells = []
    for r, counts in enumerate(matrix):
        total = sum(counts) or 1
        for c, count in enumerate(counts):
            if not count and not numbered:
                continue
            share = count / total
            where = {"x": round(label_px + c * cell, 1), "y": round(label_px + r * cell, 1)}
            hover = tag("title", f"{class_name(labels, r)} read as {class_name(labels, c)}: {count} of {sum(counts)}")
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
                        class_="on" if share > _DARK else "middle" if share > _MIDDLE else "in",
                        pointer_events="none",
                    )
                )
    names = []
    if numbered:
        for i in range(n):
            middle = i * cell + cell / 2
            name = shorten(class_name(labels, i), label_px - 10)
            names.append(tag("text", name, x=label_px - 8, y=label_px + middle + 4, text_anchor="end"))
            x, y = label_px + middle + 4, label_px - 8
            names.append(tag("text", name, x=x, y=y, transform=f"rotate(-90 {x:g} {y:g})"))
    size = label_px + n * cell
    return svg(size, size, title, cells, names, smallest_px=min(size, 340))


def class_name(labels: Sequence[str], i: int) -> str:
    """The label of class `i`, else its number."""
    return labels[i] if i < len(labels) and labels[i] else str(i)
