"""What each pass contributed: `ablation` of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import Values, count, number, percent, points, size


def ablation(report: Values) -> Markup | None:
    found = report.get("ablation")
    if not isinstance(found, Mapping) or not found.get("steps"):
        return None
    metric = str(found.get("metric", "metric"))
    counted = any((one.get("after") or {}).get("simd_instructions") is not None for one in found["steps"])
    cost = "simd_instructions" if counted else "macs"
    head = [
        "pass",
        "file",
        "SIMD instructions" if counted else "multiply-accumulates",
        metric,
        f"change of {metric}",
        "seconds",
    ]
    parts: list[object] = [columns_in_use(head, [_row(one, cost) for one in found["steps"]])]
    if found.get("without"):
        parts += [
            tag("h3", "The recipe without one pass, and with it"),
            columns_in_use(head, [_row(one, cost) for one in found["without"]]),
        ]
    samples = found.get("samples")
    on = f"On {samples} validation samples, of which nothing was learnt. " if samples else ""
    on += f"Cost in {found['unit']}. " if found.get("unit") else ""
    parts.append(soft(f"{on}Passes act on what the ones before them left: their order matters."))
    return section("ablation", "What each pass gave", parts)


def _row(one: Values, cost: str) -> Sequence[Any]:
    a, b = one.get("before") or {}, one.get("after") or {}
    both = a.get("value") is not None and b.get("value") is not None
    return (
        one.get("pass"),
        f"{size(a.get('bytes'))} → {size(b.get('bytes'))}",
        f"{count(a.get(cost) or 0)} → {count(b.get(cost) or 0)}" if a.get(cost) != b.get(cost) else None,
        f"{percent(a['value'])} → {percent(b['value'])}" if both else None,
        points(b["value"] - a["value"]) if both else None,
        None if one.get("seconds") is None else number(one["seconds"]),
    )
