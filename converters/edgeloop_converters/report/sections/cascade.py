"""The cascade's trade: accuracy against time over the confidence asked of the light variant."""

from __future__ import annotations

from edgeloop_converters.report.html import Markup, section, soft, table
from edgeloop_converters.report.words import Values, percent

_HEAD = ("confidence asked", "accuracy", "answers as heavy", "asked heavy", "time, relative to heavy")


def cascade(report: Values) -> Markup | None:
    one = report.get("cascade")
    if not one:
        return None
    is_exit = bool(one.get("is_exit"))
    rows = []
    for point in one["points"]:
        name = {None: f"{one['heavy']} alone", 0.0: f"{one['light']} alone"}.get(point["threshold"])
        accuracy = "" if point["accuracy"] is None else percent(point["accuracy"])
        mark = " ← proposed" if point["threshold"] == one["proposed"] and name is None else ""
        rows.append(
            (name or f"{point['threshold']:g}{mark}", accuracy, percent(point["agreement"]),
             percent(point["escalated"]), f"{point['cost']:.2f}")
        )  # fmt: skip
    said = (
        f"{one['light']} answers first, {one['heavy']} where its confidence is lower. {one['n']} samples; "
        f"{one['light_ms']:.3g} and {one['heavy_ms']:.3g} ms, medians on this host, 1 thread. The device takes "
        f"{'--exit-head' if is_exit else '--cascade'} {one['light']}:CONFIDENCE."
    )
    return section("cascade", "Early exit" if is_exit else "Cascade", soft(said), table(_HEAD, rows))
