"""What was done to win back what quantization lost: the rungs of the repair ladder, and the refinement of constants.

A rung is a table with `name` and whatever else is known: `before`, `after` (a number, or numbers by name), `bytes`,
`ops`, `seconds`, `kept` (or `accepted`), `detail`. Nothing but the name is required.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeloop_converters.report.charts import Rung, ladder_chart
from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import Values, flat, number, percent, size

_METRICS = ("accuracy", "metric", "this", "agreement")
_TOLD = ("name", "before", "after", "bytes", "ops", "seconds", "kept", "accepted", "detail", "reason", "note")


def repairs(report: Values) -> Markup | None:
    rungs = [r for r in report.get("repairs") or () if isinstance(r, Mapping)]
    refined = [r for r in report.get("refinement") or () if isinstance(r, Mapping)]
    parts: list[object] = []
    if rungs:
        parts += [
            tag("p", _told(rungs)),
            _picture(report, rungs),
            columns_in_use(
                ["rung", "before", "after", "gain", "size", "ops", "seconds", "", "what"],
                [_row(r) for r in rungs],
                class_="wrap",
            ),
        ]
    if refined:
        parts += [
            tag("h3", "Refinement of ranges and weights") if rungs else None,
            columns_in_use(
                ["pass", "error before", "error after", "change", "seconds", "", "what"], [_pass(r) for r in refined]
            ),
            soft(
                "Only constants change, so speed and ops stay what they were. Errors are those of the outputs on "
                "calibration samples that the passes did not see; flips are other decisions than the float model's."
            ),
        ]
    return section("repairs", "Repairs and refinement", parts) if parts else None


def _told(rungs: Sequence[Values]) -> str:
    kept = sum(_is_kept(r) for r in rungs)
    return f"{len(rungs)} rung{'s' if len(rungs) != 1 else ''} tried, {kept} kept."


def _is_kept(rung: Values) -> bool:
    return bool(rung.get("kept", rung.get("accepted", True)))


def _metric(value: object) -> float | None:
    """The one number of a rung's before or after that says how good the model is."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in _METRICS if isinstance(value.get(key), (int, float))), None)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _picture(report: Values, rungs: Sequence[Values]) -> Markup | None:
    drawn = []
    for rung in rungs:
        before, after = _metric(rung.get("before")), _metric(rung.get("after"))
        if before is None or after is None:
            continue
        shown = f"{percent(before)} → {percent(after)}" + ("" if _is_kept(rung) else ", not kept")
        drawn.append(Rung(str(rung.get("name")), before, after, shown, _is_kept(rung)))
    if not drawn:
        return None
    metrics, goals = (report.get("variants") or [{}])[0].get("metrics") or {}, report.get("goals") or {}
    goal = goals.get("min_agreement") if metrics.get("metric") == "agreement" else None
    if goals.get("max_drop") is not None and metrics.get("float") is not None:
        goal = metrics["float"] - goals["max_drop"]
    return tag("figure", ladder_chart("the metric before and after each rung", drawn, goal=goal))


def _row(rung: Values) -> list[object]:
    before, after = _metric(rung.get("before")), _metric(rung.get("after"))
    gain = f"{(after - before) * 100:+.2f} pt" if before is not None and after is not None else ""
    more = {k: v for k, v in rung.items() if k not in _TOLD and v not in (None, "", [], {})}
    what = [str(rung.get(key)) for key in ("detail", "reason", "note") if rung.get(key)] + (
        [flat(more)] if more else []
    )
    return [
        rung.get("name"),
        _figures(rung.get("before")),
        _figures(rung.get("after")),
        gain,
        _bytes(rung.get("bytes")),
        _ops(rung.get("ops")),
        _seconds(rung.get("seconds")),
        "kept" if _is_kept(rung) else "not kept",
        "; ".join(what),
    ]


def _figures(value: object) -> str:
    one = _metric(value)
    if one is not None:
        return percent(one)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {number(v) if isinstance(v, (int, float)) else v}" for k, v in value.items())
    return "" if value is None else str(value)


def _bytes(value: object) -> str:
    """A size, or (before, after)."""
    if isinstance(value, (list, tuple)):
        return " → ".join(_bytes(v) for v in value)
    if isinstance(value, Mapping):
        return " → ".join(_bytes(v) for v in value.values())
    return size(value) if isinstance(value, (int, float)) else "" if value is None else str(value)


def _ops(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(flat(list(v.values()) if isinstance(v, Mapping) else v).replace(", ", " ") for v in value)
    return "" if value is None else flat(value)


def _seconds(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else ""


def _pass(done: Values) -> list[object]:
    before, after = done.get("before") or {}, done.get("after") or {}
    told = next((key for key in ("held_out_error", "flips", *before) if key in before and key in after), None)
    was, now = (before.get(told), after.get(told)) if told else (None, None)
    change = f"{(now - was) / was:+.0%}" if was and now is not None else ""
    name = f"{done.get('name')}{' (flips)' if told == 'flips' else ''}"
    kept = "kept" if done.get("accepted", True) else "not kept"
    return [name, number(was), number(now), change, _seconds(done.get("seconds")), kept, done.get("detail")]
