"""The search for a smaller model: why it went as it did, and all trials with the front that no other trial beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import Values, count, number, percent, size


def search(report: Values) -> Markup | None:
    found = report.get("search")
    if not isinstance(found, Mapping) or not found.get("reasons"):
        return None
    trials = [one for one in found.get("trials") or () if isinstance(one, Mapping)]
    parts: list[object] = [tag("ul", [tag("li", str(reason)) for reason in found["reasons"]])]
    if trials:
        head = [
            "share of the cost",
            "reached",
            str(found.get("unit") or "cost"),
            "trained",
            "file",
            "metric",
            "agreement",
            "measured",
            "",
            "budget",
            "seconds",
        ]
        parts += [
            columns_in_use(head, [_row(one, found.get("chosen")) for one in trials]),
            soft(
                f"On {trials[0].get('samples')} validation samples, of which nothing was learnt. On the front: no "
                "other trial is as good and smaller."
            ),
        ]
    return section("search", "The search for a smaller model", parts)


def _row(one: Values, chosen: object) -> Sequence[Any]:
    measured, missed = one.get("measured"), one.get("missed") or ()
    value = f"{number(measured['value'])} {measured['unit']}" if isinstance(measured, Mapping) else None
    place = "taken" if one.get("name") == chosen else "on the front" if one.get("on_front") else None
    return (
        percent(one.get("share")),
        percent(one.get("reached")),
        None if one.get("cost") is None else count(round(one["cost"])),
        "yes" if one.get("trained") else None,
        size(one.get("bytes")),
        percent(one.get("value")),
        percent(one.get("agreement")) if one.get("metric") != "agreement" else None,
        value,
        place,
        "; ".join(map(str, missed)) or "within",
        None if one.get("seconds") is None else number(one["seconds"]),
    )
