"""What the model was calibrated and evaluated on, what it eats, and what was found about it."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.report.html import Markup, definitions, section, tag
from edgeloop_converters.report.words import Values

_SEVERITIES = {"severe": ("failed", "✗"), "warning": ("doubtful", "!"), "note": ("", "i")}
_ORDER = {"severe": 0, "warning": 1}


def data_and_contract(report: Values) -> Markup | None:
    data = report.get("data") or {}
    pairs = []
    for key, title in (("calibration", "Calibrated on"), ("evaluation", "Evaluated on")):
        one = data.get(key)
        if one:
            labelled = {True: ", labelled", False: ", without labels"}.get(one.get("labelled"), "")
            pairs.append((title, f"{one.get('samples')} samples of {one.get('source')}{labelled}"))
    contract = report.get("contract") or {}
    for one in contract.get("inputs") or ():
        pairs.append(("Model input", _input_line(one)))
    if contract.get("output"):
        labels = contract["output"].get("labels") or ()
        pairs.append(("Model output", f"{contract['output'].get('kind')}{f', {len(labels)} labels' if labels else ''}"))
    cache = report.get("cache") or {}
    if sum(cache.values()):
        pairs.append(("Decoded pictures", f"{cache['hits']} of {sum(cache.values())} from the cache"))
    return section("data", "Data and contract", definitions(pairs)) if pairs else None


def _input_line(one: Values) -> str:
    def numbers(values: Any) -> str:
        return ", ".join(f"{v:g}" for v in values) if isinstance(values, (list, tuple)) else str(values)

    mean, std = numbers(one.get("mean", ())), numbers(one.get("std", ()))
    scaling = "values as they are" if (mean, std) == ("0", "1") else f"(value - {mean}) / {std}"
    if one.get("kind") == "image":
        height, width = one.get("size") or ("?", "?")
        return f"image, {height} x {width}, {one.get('color')}, {one.get('resize')}, {scaling}"
    return f"tensor, {one.get('shape')}, {scaling}"


def findings(report: Values) -> Markup | None:
    """The gravest first: findings on the data, warnings, then what was noted on the way."""
    graver_first = sorted(report.get("findings") or (), key=lambda f: _ORDER.get(str(f.get("severity")), 2))
    alarms = [f for f in graver_first if _ORDER.get(str(f.get("severity")), 2) < 2]
    said = {str(f.get("what")) for f in report.get("findings") or ()}
    warned = [text for text in report.get("warnings") or () if not any(what in str(text) for what in said)]
    found = [
        *map(_finding, alarms),
        *(_item("warning", text) for text in warned),
        *(_finding(f) for f in graver_first if f not in alarms),
    ]
    notes = [tag("li", text) for text in report.get("notes") or () if not _is_of_a_pass(report, str(text))]
    if not found and not notes:
        return None
    return section(
        "findings",
        "Findings",
        tag("ul", found, class_="findings") if found else tag("p", "Nothing on the data or the model is out of order."),
        [tag("h3", "Notes of the conversion"), tag("ul", notes)] if notes else None,
    )


def _is_of_a_pass(report: Values, note: str) -> bool:
    """The refinement's passes and the repairs have a part of their own."""
    if report.get("repairs") and note.startswith(("repair, ", "repairing: ")):
        return True
    return any(note.startswith(f"{done.get('name')}: ") for done in report.get("refinement") or ())


def _finding(one: Values) -> Markup:
    fix = tag("span", f" -> {one.get('fix')}", class_="soft") if one.get("fix") else None
    return _item(str(one.get("severity")), one.get("what"), fix)


def _item(severity: str, *content: object) -> Markup:
    kind, sign = _SEVERITIES.get(severity, ("", "i"))
    mark = tag("span", sign, class_=f"sign {kind}".strip(), aria_hidden="true")
    return tag("li", mark, tag("b", severity), ": ", *content)
