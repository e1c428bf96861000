"""What was done to win back what quantization lost: the rungs of the repair ladder, and the refinement of constants.

A rung is a table with `name` and whatever else is known: `before`, `after` (a number, or numbers by name), `bytes` or
`bytes_before` and `bytes_after`, `ops`, `suspects`, `latency_ratio`, `seconds`, `tried`, `accepted` (or `kept`),
`detail`. Nothing but the name is required, and what else there is comes along as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeloop_converters.report.charts import Rung, ladder_chart
from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import Values, flat, number, percent, size

_METRICS = ("accuracy", "metric", "this", "agreement")
_TOLD = frozenset(
    {
        "name", "before", "after", "bytes", "bytes_before", "bytes_after", "ops", "suspects", "latency_ratio",
        "seconds", "tried", "kept", "accepted", "detail", "reason", "note",
    }
)  # fmt: skip
_FATES = {"kept": ("passed", "✓"), "not kept": ("failed", "✗"), "not tried": ("", "–"), "": ("", "i")}
_SUSPECT = ["op", "SNR of its output", "agreement", "output error"]


def repairs(report: Values) -> Markup | None:
    rungs = [r for r in report.get("repairs") or () if isinstance(r, Mapping)]
    places = _places(report)
    refined = [r for r in report.get("refinement") or () if isinstance(r, Mapping)]
    parts: list[object] = []
    if rungs:
        parts += [
            tag("p", _told(rungs)),
            _picture(report, rungs),
            tag("ol", [_entry(*_rung(r, _key(report, rungs, r), places)) for r in rungs], class_="rungs"),
            _suspects(rungs, places),
        ]
    if refined:
        parts += [
            tag("h3", "Refinement of ranges and weights") if rungs else None,
            tag("ol", [_entry(*_pass(r)) for r in refined], class_="rungs"),
            soft(
                "Only constants change, so speed and ops stay what they were. Errors are mean squares of the outputs' "
                "errors relative to their variance, on calibration samples that the passes did not see; flips are "
                "other decisions than the float model's."
            ),
        ]
    return section("repairs", "Repairs and refinement", parts) if parts else None


def _told(rungs: Sequence[Values]) -> str:
    changes = [r for r in rungs if _has_numbers(r)]
    kept = sum(_fate(r) == "kept" for r in changes)
    return f"{len(changes)} rung{'s' if len(changes) != 1 else ''} tried, {kept} kept."


def _has_numbers(rung: Values) -> bool:
    return rung.get("tried", True) is not False and rung.get("after") is not None


def _fate(rung: Values) -> str:
    if rung.get("tried", True) is False:
        return "not tried"
    if rung.get("after") is None and "kept" not in rung:
        return ""  # it only looked
    return "kept" if rung.get("kept", rung.get("accepted", True)) else "not kept"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _key(report: Values, rungs: Sequence[Values], rung: Values) -> str | None:
    """Which of a rung's numbers says how good the model is: what the goals ask for, where that was measured."""
    before = rung.get("before")
    if not isinstance(before, Mapping):
        return None
    by_agreement = _holds_at_first(report, rungs) or (report.get("goals") or {}).get("max_drop") is None
    wanted = ("agreement",) if by_agreement and report.get("goals") else ()
    return next((key for key in (*wanted, *_METRICS) if _number(before.get(key)) is not None), None)


def _holds_at_first(report: Values, rungs: Sequence[Values]) -> bool:
    """Whether the samples that judge the rungs meet the largest drop before any: they say little about it, then."""
    allowed = _number((report.get("goals") or {}).get("max_drop"))
    score: Values = next((r["before"] for r in rungs if isinstance(r.get("before"), Mapping)), {})
    reference, accuracy = _number(score.get("float_accuracy")), _number(score.get("accuracy"))
    if allowed is None or reference is None or accuracy is None:
        return False
    return reference - accuracy <= allowed


def _places(report: Values) -> dict[str, int]:
    """Tensors of the delivered file: their op's number there. A rung's own numbers are those before any repair."""
    ops = [o for o in report.get("per_op") or () if isinstance(o, Mapping)]
    return {str(o["output"]): o["index"] for o in ops if o.get("output") and isinstance(o.get("index"), int)}


def _metric(value: object, key: str | None) -> float | None:
    return _number(value.get(key)) if isinstance(value, Mapping) else _number(value)


def _picture(report: Values, rungs: Sequence[Values]) -> Markup | None:
    drawn = []
    for rung in rungs:
        key = _key(report, rungs, rung)
        before, after = _metric(rung.get("before"), key), _metric(rung.get("after"), key)
        if before is None or after is None:
            continue
        kept = _fate(rung) == "kept"
        shown = f"{percent(before)} → {percent(after)}, {_fate(rung)}"
        drawn.append(Rung(str(rung.get("name")), before, after, shown, kept))
    if not drawn:
        return None
    title = "the metric before and after each rung"
    if _holds_at_first(report, rungs):
        why = soft(
            "Agreement with the float model. The goal on accuracy holds on these samples before any repair, though not "
            "on the evaluation data, so it cannot decide here."
        )
        return tag("div", tag("figure", ladder_chart(title, drawn)), why)
    return tag("figure", ladder_chart(title, drawn, goal=_goal(report, rungs)))


def _goal(report: Values, rungs: Sequence[Values]) -> float | None:
    """Where the goal lies on the samples that judge the rungs; else on those of the evaluation."""
    goals, metrics = report.get("goals") or {}, (report.get("variants") or [{}])[0].get("metrics") or {}
    if goals.get("max_drop") is None:
        return _number(goals.get("min_agreement"))
    scores = [r["before"] for r in rungs if isinstance(r.get("before"), Mapping)]
    known = [n for n in (_number(score.get("float_accuracy")) for score in scores) if n is not None]
    base = known[0] if known else _number(metrics.get("float"))
    return None if base is None else base - float(goals["max_drop"])


def _entry(fate: str, name: object, detail: str, figures: Sequence[str]) -> Markup:
    """One step: what became of it, what it was, what it gained and cost."""
    kind, sign = _FATES.get(fate, ("", "i"))
    told = " · ".join(part for part in figures if part)
    return tag(
        "li",
        tag("span", sign, class_=f"sign {kind}".strip(), aria_hidden="true"),
        tag("b", name),
        f" {fate}" if fate else None,
        f": {detail}" if detail else None,
        tag("div", told, class_="soft") if told else None,
    )


def _rung(rung: Values, key: str | None, places: Mapping[str, int]) -> tuple[str, object, str, list[str]]:
    before, after = _metric(rung.get("before"), key), _metric(rung.get("after"), key)
    gain = f" ({(after - before) * 100:+.2f} pt)" if before is not None and after is not None else ""
    both = [text for text in (_figures(rung.get(when), key) for when in ("before", "after")) if text]
    more = {k: v for k, v in rung.items() if k not in _TOLD and v not in (None, "", [], {})}
    told = [str(rung.get(word)) for word in ("detail", "reason", "note") if rung.get(word)]
    ratio, seconds, ops = (
        _number(rung.get("latency_ratio")),
        _seconds(rung.get("seconds")),
        _ops(rung.get("ops"), places),
    )
    errors = _errors(rung)
    agreement = "" if key == "agreement" else _agreement(rung)
    figures = [
        f"{key or 'metric'} {' → '.join(both)}{gain}" if both else "",
        f"agreement {agreement}" if agreement else "",
        f"output error {errors}" if errors else "",
        _bytes(rung),
        "" if ratio is None else f"{ratio:.2f}x the latency",
        f"{seconds} s" if seconds else "",
        f"ops {ops}" if ops else "",
    ]
    return _fate(rung), rung.get("name"), "; ".join(told + ([flat(more)] if more else [])), figures


def _figures(value: object, key: str | None) -> str:
    one = _metric(value, key)
    if one is not None:
        return percent(one)
    if isinstance(value, Mapping):
        known = {k: _number(v) for k, v in value.items()}
        return ", ".join(f"{k} {number(v)}" for k, v in known.items() if v is not None)
    return "" if value is None else str(value)


def _errors(rung: Values) -> str:
    both = [
        _number(score.get("error")) if isinstance(score, Mapping) else None
        for score in (rung.get("before"), rung.get("after"))
    ]
    return " → ".join(f"{error:.2g}" for error in both if error is not None)


def _agreement(rung: Values) -> str:
    scores = (rung.get("before"), rung.get("after"))
    known = [_number(score.get("agreement")) for score in scores if isinstance(score, Mapping)]
    return " → ".join(percent(value) for value in known if value is not None)


def _bytes(rung: Values) -> str:
    """One size, or that before and after where it changed."""
    value = rung.get("bytes")
    many = value if isinstance(value, (list, tuple)) else [*value.values()] if isinstance(value, Mapping) else [value]
    if rung.get("bytes_after") is not None:
        many = [rung.get("bytes_before"), rung.get("bytes_after")]
    sizes = [size(known) for known in map(_number, many) if known is not None]
    return " → ".join(dict.fromkeys(sizes))


def _ops(value: object, places: Mapping[str, int]) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_op(one, places) for one in value)
    return "" if value is None else flat(value)


def _op(one: object, places: Mapping[str, int]) -> str:
    """Numbered as in the delivered file; by its tensor where it is not there."""
    if not isinstance(one, Mapping) or "name" not in one:
        return flat(one)
    output = str(one.get("output") or "")
    if output in places:
        return f"{places[output]} {one['name']}"
    return f"{one['name']} '{output.split(';', 1)[0]}'" if output else str(one["name"])


def _suspects(rungs: Sequence[Values], places: Mapping[str, int]) -> Markup | None:
    rows = []
    for rung in rungs:
        listed = rung.get("suspects")
        for one in listed if isinstance(listed, (list, tuple)) else ():
            if not isinstance(one, Mapping):
                continue
            snr, agreement, error = (_number(one.get(key)) for key in ("snr_db", "agreement", "error"))
            last = one.get("last")
            rows.append(
                [
                    _op(one, places) + (f" to {_op(last, places)}" if last else ""),
                    "" if snr is None else f"{snr:.1f} dB",
                    percent(agreement),
                    "" if error is None else f"{error:.2g}",
                ]
            )
    if not rows:
        return None
    return tag(
        "div",
        tag("h3", "Ops that spoil the answers most"),
        columns_in_use(_SUSPECT, rows),
        soft("Agreement and output error are those with this op alone in float, on calibration samples."),
    )


def _seconds(value: object) -> str:
    seconds = _number(value)
    return f"{seconds:.1f}" if seconds else ""


def _pass(done: Values) -> tuple[str, object, str, list[str]]:
    before, after = done.get("before") or {}, done.get("after") or {}
    told = next((key for key in ("held_out_error", "flips", *before) if key in before and key in after), None)
    was, now = (before.get(told), after.get(told)) if told else (None, None)
    change = f" ({(now - was) / was:+.0%})" if was and now is not None else ""
    what = "error" if str(told).endswith("error") else str(told)
    seconds = _seconds(done.get("seconds"))
    figures = [f"{what} {number(was)} → {number(now)}{change}" if told else "", f"{seconds} s" if seconds else ""]
    return (
        "kept" if done.get("accepted", True) else "not kept",
        done.get("name"),
        str(done.get("detail") or ""),
        figures,
    )
