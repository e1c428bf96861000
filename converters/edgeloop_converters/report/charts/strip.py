"""Ops in their order as a strip of cells, colored by where they run, with one of them labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeloop_converters.report.charts.base import ROW_UNITS
from edgeloop_converters.report.html import Markup, tag

KINDS = ("edgetpu", "xnnpack", "gpu", "cpu", "other")


@dataclass(frozen=True)
class Cell:
    """kind: one of `KINDS`. letter: written in the cell, so that color is not needed to read it."""

    kind: str
    letter: str
    hover: str


def strip_chart(title: str, cells: Sequence[Cell], labels: Mapping[int, str]) -> Markup:
    """A cell per op with its index below, on as many lines as it takes. labels: what some cells hold, by index."""
    parts = []
    for i, one in enumerate(cells):
        label = labels.get(i, "")
        text = f"{one.letter} {label}" if label else one.letter
        box = tag("span", text, class_=f"cell back-{one.kind}" + (" chosen" if label else ""))
        parts.append(tag("span", box, tag("small", i), class_="op" + (" wide" if label else ""), title=one.hover))
    return tag("div", parts, class_="strip", role="group", aria_label=title)


def share_bar(title: str, shares: Sequence[tuple[str, float, str]]) -> Markup:
    """One bar split by (kind, share, text); shares add up to 1. The texts stand below it."""
    parts = []
    x = 0.0
    for kind, share, _ in shares:
        wide = ROW_UNITS * share
        parts.append(
            tag("rect", x=round(x, 1), y=0, width=max(2.0, round(wide - 2, 1)), height=20, class_=f"on-{kind}")
        )
        x += wide
    drawing = tag(
        "svg", tag("title", title), parts, viewBox=f"0 0 {ROW_UNITS} 20", preserveAspectRatio="none", role="img",
        aria_label=title, class_="share",
    )  # fmt: skip
    return tag("div", drawing, tag("p", ", ".join(text for _, _, text in shares), class_="soft"))
