"""Rungs of a repair, one under the other: where the metric stood before and after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop_converters.report.charts.base import CHARACTER_PX, linear_ticks, shorten, svg
from edgeloop_converters.report.html import Markup, tag


@dataclass(frozen=True)
class Rung:
    """before, after: fractions, more is better. shown: its tooltip. is_kept: False is drawn hollow."""

    label: str
    before: float
    after: float
    shown: str
    is_kept: bool = True


def ladder_chart(
    title: str, rungs: Sequence[Rung], *, goal: float | None = None, width: int = 600, row: int = 28
) -> Markup:
    """A dot for before, an arrow to a dot for after. goal: a vertical line that the last rung should have passed."""
    if not rungs:
        return Markup("")
    label_px = min(0.3 * width, 12 + CHARACTER_PX * max(len(r.label) for r in rungs))
    values = [v for r in rungs for v in (r.before, r.after)] + ([] if goal is None else [goal])
    spread = max(0.01, max(values) - min(values))
    low, high = min(values) - 0.08 * spread, max(values) + 0.08 * spread
    room = width - label_px - 14
    height = 18 + len(rungs) * row + 20

    def x_of(value: float) -> float:
        return round(label_px + room * (value - low) / (high - low), 1)

    parts: list[object] = []
    for tick in linear_ticks(low * 100, high * 100):
        x = x_of(tick / 100)
        parts.append(tag("line", x1=x, x2=x, y1=18, y2=height - 18, class_="grid"))
        parts.append(tag("text", f"{tick:g} %", x=x, y=height - 5, text_anchor="middle"))
    if goal is not None:
        parts.append(tag("line", x1=x_of(goal), x2=x_of(goal), y1=16, y2=height - 18, class_="limit"))
        parts.append(tag("text", "goal", x=x_of(goal), y=11, text_anchor="middle", class_="good"))
    for i, rung in enumerate(rungs):
        y = 18 + i * row + row / 2
        x0, x1 = x_of(rung.before), x_of(rung.after)
        gain = "gain" if rung.after >= rung.before else "loss"
        kind = gain if rung.is_kept else f"{gain} dropped"
        parts.append(
            tag(
                "g",
                tag("title", f"{rung.label}: {rung.shown}"),
                tag("text", shorten(rung.label, label_px - 8), x=label_px - 8, y=y + 4, text_anchor="end"),
                tag("line", x1=x0, x2=x1, y1=y, y2=y, class_=f"step {kind}"),
                tag("circle", cx=x0, cy=y, r=3, class_="from"),
                tag("circle", cx=x1, cy=y, r=5.5, class_=f"dot {kind}"),
            )
        )
    return svg(width, height, title, parts, smallest_px=360)
