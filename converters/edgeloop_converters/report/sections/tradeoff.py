"""Variants and the float model side by side: what each costs and how good it is, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Callable

from edgeloop_converters.report.charts import Point, scatter_chart
from edgeloop_converters.report.html import Markup, columns_in_use, section, soft, tag
from edgeloop_converters.report.words import (
    AGREEMENT,
    Values,
    measured_on,
    milliseconds,
    percent,
    short_size,
    shown_bucket,
    size,
)

FLOAT = "float"


def tradeoff(report: Values) -> Markup | None:
    variants = report.get("variants") or ()
    compiled = report.get("compiled") or ()
    rows = [row for row in (_float_row(report), *(_row(report, v) for v in (*variants, *compiled))) if row]
    if not rows:
        return None
    first = (variants or [{}])[0]
    agreement = "" if _metric(report) == "agreement" else "agreement"
    head = ["model", "size", "xz", _metric(report), "precision", "recall", "F1", agreement, "p50", "p95"]
    return section(
        "variants",
        "Size, quality and speed",
        _pictures(report),
        columns_in_use(head, rows),
        _notes(report, first),
    )


def _metric(report: Values) -> str:
    first = (report.get("variants") or [{}])[0]
    return str((first.get("metrics") or {}).get("metric", "metric"))


def _float_row(report: Values) -> list[object] | None:
    reference = report.get("float") or {}
    if not reference.get("bytes"):
        return None
    metrics = (report.get("variants") or [{}])[0].get("metrics") or {}
    profile = reference.get("profile") or {}
    return [
        "float model",
        size(reference["bytes"]),
        "",
        percent(metrics.get("float")),
        *_scores(report, FLOAT),
        "",
        milliseconds(profile.get("p50_ms")),
        milliseconds(profile.get("p95_ms")),
    ]


def _row(report: Values, variant: Values) -> list[object]:
    metrics, profile = variant.get("metrics") or {}, variant.get("profile") or {}
    return [
        variant.get("name"),
        size(variant.get("bytes")),
        size(variant.get("xz_bytes")),
        percent(metrics.get("this")),
        *_scores(report, variant.get("name")),
        "" if metrics.get("metric") == "agreement" else percent(metrics.get("agreement")),
        milliseconds(profile.get("p50_ms")),
        milliseconds(profile.get("p95_ms")),
    ]


def _scores(report: Values, name: object) -> list[str]:
    scores = (report.get("scores") or {}).get(name) or {}
    return [percent(scores.get(key)) for key in ("precision", "recall", "f1")]


def _notes(report: Values, first: Values) -> Markup | None:
    notes = []
    kind = report.get("agreement_kind")
    if kind:
        notes.append(f"Agreement: {AGREEMENT.get(kind, kind)}.")
    if (report.get("scores") or {}).get(first.get("name")):
        notes.append("Precision, recall and F1 are means over the classes.")
    where = measured_on(first.get("profile") or {})
    if where:
        notes.append(f"p50 and p95 are of the model alone (invoke), measured on {where}.")
    if any(v.get("xz_bytes") for v in report.get("variants") or ()):
        notes.append("xz is the file compressed, about what it takes in a bundle or a download.")
    n = (first.get("metrics") or {}).get("n")
    if n:
        notes.append(f"One of {n} samples is {100 / n:.2g} points.")
    return soft(" ".join(notes)) if notes else None


def _pictures(report: Values) -> Markup | None:
    goals, metric = report.get("goals") or {}, _metric(report)
    variants = report.get("variants") or ()
    before = ((variants or [{}])[0].get("metrics") or {}).get("float")
    floor = goals.get("min_agreement") if metric == "agreement" else None
    if metric != "agreement" and goals.get("max_drop") is not None and before is not None:
        floor = before - goals["max_drop"]
    by_size = _points(report, lambda model, _profile: model.get("bytes"), size)
    by_speed = _points(report, lambda _model, profile: profile.get("p50_ms"), milliseconds)
    charts, is_choice = [], not shown_bucket(report)
    if by_size:
        charts.append(
            scatter_chart(
                f"{metric} against size of the model file", by_size, "size of the model file", metric,
                show_x=short_size, least_quality=floor, most_cost=goals.get("max_bytes"),
                is_choice=is_choice,
            )
        )  # fmt: skip
    if len(by_speed) > 1 or (by_speed and len(by_size) < 2):
        charts.append(
            scatter_chart(
                f"{metric} against latency", by_speed, "p50 of the model alone", metric,
                show_x=lambda ms: f"{ms:g} ms", least_quality=floor, is_choice=is_choice,
            )
        )  # fmt: skip
    if not charts:
        return None
    caption = (
        "Up and to the left is better. The line is the Pareto front: a filled mark is on it, a hollow one is beaten in "
        "both by another. A square is the float model."
    )
    if not is_choice:
        caption = (
            "Up and to the left is better. A circle is the variant of one shape, on the samples of that shape. They "
            "are no alternatives: a device runs each sample on the smallest that holds it. A square is the float model."
        )
    if len(charts) == 1:  # the words take the place of the second one
        return tag("div", tag("figure", charts[0]), tag("div", soft(caption)), class_="plots")
    return tag("div", tag("div", (tag("figure", c) for c in charts), class_="plots"), soft(caption))


def _points(
    report: Values, cost: Callable[[Values, Values], float | None], show: Callable[[float], str]
) -> list[Point]:
    """The float model and every variant whose cost is known. cost: of (model, its profile)."""
    found = []
    variants = report.get("variants") or ()
    reference = report.get("float") or {}
    metrics = (variants or [{}])[0].get("metrics") or {}
    models: list[tuple[str, Values, Values, float | None, bool]] = [
        ("float", reference, reference.get("profile") or {}, metrics.get("float"), True)
    ]
    for one in variants:
        models.append(
            (str(one.get("name")), one, one.get("profile") or {}, (one.get("metrics") or {}).get("this"), False)
        )
    for name, model, profile, quality, is_reference in models:
        price = cost(model, profile)
        if price and quality is not None and not (is_reference and any(v.get("scheme") == FLOAT for v in variants)):
            found.append(Point(name, price, quality, f"{name}: {show(price)}, {percent(quality)}", is_reference))
    return found
