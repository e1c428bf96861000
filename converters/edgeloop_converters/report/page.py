"""report.html from a report's plain values: one file, no external resource, light and dark, opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Protocol

from edgeloop_converters.report.html import Markup, definitions, join, table, tag
from edgeloop_converters.report.svg import Bar, bar_chart, confusion_chart, histogram_chart

Values = Mapping[str, Any]

STAGES = ("capture", "preprocess", "invoke", "postprocess", "total")
LOW_SNR_DB = 10.0
_MAX_BARS = 80
_MAX_MIXED_UP = 8
_MAX_MATRIX_CLASSES = 100


class Latencies(Protocol):
    """What is read of `edgeloop.telemetry.histogram.Histogram`."""

    @property
    def count(self) -> int: ...
    @property
    def max_ms(self) -> float: ...
    def percentile(self, p: float) -> float: ...
    def intervals_ms(self) -> Iterable[tuple[float, float, int]]: ...


def render(report: Values, *, device: str = "", latency: Mapping[str, Latencies] | None = None) -> str:
    """The page. `report`: as report.json has it; whatever is missing is left out.

    device, latency: latency histograms per stage as a device reported them, if there are any.
    """
    title = f"{report.get('name', 'model')} {report.get('version') or ''}".strip()
    body = tag(
        "main",
        _header(report, title),
        _cards(report, device, latency),
        _variants(report),
        _latency(device, latency or {}),
        _confusion(report.get("confusion")),
        _layers(report.get("per_op") or ()),
        _data(report),
        _findings(report),
        _provenance(report),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", f"edgeloop: {title}"),
        tag("style", Markup(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _section(title: str, *content: object) -> Markup:
    return tag("section", tag("h2", title), *content)


def _header(report: Values, title: str) -> Markup:
    gate = report.get("gate") or {}
    passed = bool(gate.get("passed", True))
    reasons = [*gate.get("reasons", ())]
    unverified = [*gate.get("unverified", ())]
    goals = report.get("goals") or {}
    guesses = bool(gate.get("guesses"))
    if not passed:
        said = "goals not met"
    elif goals:
        said = f"goals {gate.get('verdict')}" if unverified or guesses else "all goals met"
    else:
        said = "no goals were set" + (", and the model does no better than guessing" if guesses else "")
    verdict = ("passed" if goals and not guesses else "") if passed else "failed"
    listed = [tag("li", text) for text in [*reasons, *unverified]]
    return tag(
        "header",
        tag("h1", title),
        tag("p", f"for {report.get('target', '')}", class_="soft") if report.get("target") else None,
        tag("p", said, class_=f"verdict {verdict}".strip()),
        tag("ul", listed) if listed else None,
    )


def _cards(report: Values, device: str, latency: Mapping[str, Latencies] | None) -> Markup:
    variants = report.get("variants") or [{}]
    metrics, profile = variants[0].get("metrics") or {}, variants[0].get("profile") or {}
    metric = str(metrics.get("metric") or "metric")
    is_float = variants[0].get("scheme") == "float"
    cards = []
    if metric != "agreement":
        cards.append((f"{metric}, float", percent(metrics.get("float"))))
        if not is_float:
            cards.append((f"{metric}, {variants[0].get('scheme', 'this')}", percent(metrics.get("this"))))
    if not is_float:
        cards.append(("agreement with float", percent(metrics.get("agreement"))))
    cards.append(("model size", size(variants[0].get("bytes"))))
    total = (latency or {}).get("total")
    if total is not None:
        cards.append((f"p95 of a frame, all stages, on {device or 'the device'}", milliseconds(total.percentile(95))))
    elif profile:
        cards.append((f"p95 of the model alone on {_measured_on(profile)}", milliseconds(profile.get("p95_ms"))))
    return tag("div", (tag("div", tag("b", v), tag("small", k), class_="card") for k, v in cards if v), class_="cards")


def _variants(report: Values) -> Markup | None:
    rows = []
    scores = report.get("scores") or {}
    reference = report.get("float") or {}
    if reference.get("bytes"):
        first = (report.get("variants") or [{}])[0].get("metrics") or {}
        rows.append(
            [
                "float model",
                size(reference["bytes"]),
                percent(first.get("float")),
                *_scores(scores.get("float")),
                "",
                "",
                "",
            ]
        )
    for v in report.get("variants") or ():
        metrics, profile = v.get("metrics") or {}, v.get("profile") or {}
        rows.append(
            [
                v.get("name"),
                size(v.get("bytes")),
                percent(metrics.get("this")),
                *_scores(scores.get(v.get("name"))),
                percent(metrics.get("agreement")),
                milliseconds(profile.get("p50_ms")),
                milliseconds(profile.get("p95_ms")),
            ]
        )
    if not rows:
        return None
    variants = report.get("variants") or [{}]
    metric = (variants[0].get("metrics") or {}).get("metric", "metric")
    head = ["model", "size", metric, "precision", "recall", "F1", "agreement", "p50", "p95"]
    used = [i for i in range(len(head)) if any(row[i] not in ("", None) for row in rows)]
    kind = report.get("agreement_kind")
    where = _measured_on(variants[0].get("profile") or {})
    notes = []
    if kind:
        notes.append(f"Agreement: {_AGREEMENT.get(kind, kind)}.")
    if scores.get(variants[0].get("name")):
        notes.append("Precision, recall and F1 are means over the classes.")
    if where:
        notes.append(f"p50 and p95 are of the model alone (invoke), measured on {where}.")
    return _section(
        "Float against exported",
        table([head[i] for i in used], [[row[i] for i in used] for row in rows]),
        tag("p", " ".join(notes), class_="soft") if notes else None,
    )


def _measured_on(profile: Values) -> str:
    """Device, delegate, threads and n: a latency is nothing without them."""
    parts = [str(profile.get("device", ""))]
    if profile.get("delegate"):
        parts.append(str(profile["delegate"]))
    if profile.get("threads"):
        parts.append(f"{profile['threads']} thread" + ("s" if profile["threads"] > 1 else ""))
    if profile.get("n"):
        parts.append(f"n = {profile['n']}")
    return ", ".join(part for part in parts if part)


_AGREEMENT = {
    "top-1": "share of samples with the same best class as the float model",
    "cosine": "mean cosine similarity with the float model's output",
    "1 - relative error": "1 - relative error of the outputs against the float model's, mean over samples",
}


def _scores(scores: Values | None) -> list[str]:
    return [percent((scores or {}).get(key)) for key in ("precision", "recall", "f1")]


def _latency(device: str, latency: Mapping[str, Latencies]) -> Markup | None:
    stages = [s for s in STAGES if s in latency and latency[s].count] + sorted(
        s for s in latency if s not in STAGES and latency[s].count
    )
    if not stages:
        return None
    rows = [
        [
            s,
            *(milliseconds(latency[s].percentile(p)) for p in (50, 95, 99)),
            milliseconds(latency[s].max_ms),
            latency[s].count,
        ]
        for s in stages
    ]
    plots = [
        tag(
            "figure",
            tag("h3", stage),
            histogram_chart(
                f"latency of {stage} in ms",
                list(latency[stage].intervals_ms()),
                [(f"p{p}", latency[stage].percentile(p)) for p in (50, 95, 99)],
            ),
        )
        for stage in stages
    ]
    return _section(
        "Latency as the device reported it",
        tag("p", f"Measured on {device}." if device else None, class_="soft"),
        table(["stage", "p50", "p95", "p99", "max", "samples"], rows),
        tag("p", "Milliseconds on a logarithmic axis.", class_="soft"),
        tag("div", plots, class_="plots"),
    )


def _confusion(confusion: Values | None) -> Markup | None:
    if not confusion or not confusion.get("matrix"):
        return None
    matrix: Sequence[Sequence[int]] = confusion["matrix"]
    labels: Sequence[str] = confusion.get("labels") or ()
    mixed = sorted(
        ((n, r, c) for r, row in enumerate(matrix) for c, n in enumerate(row) if n and r != c),
        key=lambda x: (-x[0], x[1:]),
    )[:_MAX_MIXED_UP]

    def name(i: int) -> str:
        return labels[i] if i < len(labels) and labels[i] else str(i)

    rows = [[name(r), name(c), n, percent(n / sum(matrix[r]))] for n, r, c in mixed]
    chart = None
    if len(matrix) <= _MAX_MATRIX_CLASSES:
        chart = tag(
            "figure",
            confusion_chart("confusion matrix", matrix, labels),
            tag("figcaption", "Rows: true class. Columns: what the exported model says. Shade: share of the row."),
        )
    most = table(["true class", "read as", "samples", "of the class"], rows) if rows else tag("p", "No mistakes.")
    return _section("Confusion matrix", chart, tag("p", "Most frequent mistakes", class_="soft"), most)


def _layers(per_op: Sequence[Values]) -> Markup | None:
    if not per_op:
        return None
    shown = list(per_op)
    note = ""
    if len(shown) > _MAX_BARS:
        shown = sorted(sorted(shown, key=lambda o: o["snr_db"])[:_MAX_BARS], key=lambda o: o["index"])
        note = f" The {_MAX_BARS} worst of {len(per_op)} tensors."
    bars = [
        Bar(
            f"{o['index']} {o['name']}",
            float(o["snr_db"]),
            f"{o['snr_db']:.1f} dB",
            f"{o['output']}: SNR {o['snr_db']:.2f} dB, MSE {o['mse']:.3g}, largest error {o['max_abs']:.3g}",
            o["snr_db"] < LOW_SNR_DB,
        )
        for o in shown
    ]
    return _section(
        "Error per layer",
        tag("figure", bar_chart("signal-to-noise ratio of each op's output", bars)),
        tag(
            "p",
            "Signal-to-noise ratio of each op's output against the float model: longer is better; errors of earlier "
            f"ops are contained in later ones. Below {LOW_SNR_DB:g} dB is marked.{note}",
            class_="soft",
        ),
    )


def _data(report: Values) -> Markup | None:
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
    return _section("Data and contract", definitions(pairs)) if pairs else None


def _input_line(one: Values) -> str:
    def numbers(values: Any) -> str:
        return ", ".join(f"{v:g}" for v in values) if isinstance(values, (list, tuple)) else str(values)

    mean, std = numbers(one.get("mean", ())), numbers(one.get("std", ()))
    scaling = "values as they are" if (mean, std) == ("0", "1") else f"(value - {mean}) / {std}"
    if one.get("kind") == "image":
        height, width = one.get("size") or ("?", "?")
        return f"image, {height} x {width}, {one.get('color')}, {one.get('resize')}, {scaling}"
    return f"tensor, {one.get('shape')}, {scaling}"


def _findings(report: Values) -> Markup | None:
    found = [
        tag("li", tag("b", f.get("severity")), f": {f.get('what')} ", tag("span", f"-> {f.get('fix')}", class_="soft"))
        for f in report.get("findings") or ()
    ]
    items = [tag("li", text) for text in [*(report.get("warnings") or ()), *(report.get("notes") or ())]]
    return _section("Findings", tag("ul", found + items)) if found or items else None


def _provenance(report: Values) -> Markup:
    provenance = report.get("provenance") or {}
    stages = report.get("stages") or {}
    pairs: list[tuple[object, object]] = [
        (key.replace("_", " "), _flat(value)) for key, value in provenance.items() if value not in (None, "", {}, [])
    ]
    pairs.append(("signed by", report.get("signed_by") or ("nobody" if report.get("bundle") else None)))
    cache = report.get("cache") or {}
    if sum(cache.values()):
        pairs.append(("decoded pictures", f"{cache['hits']} of {sum(cache.values())} from the cache"))
    if stages:
        pairs.append(("seconds", ", ".join(f"{k} {v:.1f}" for k, v in stages.items())))
    command = report.get("command")
    return _section(
        "Where this comes from",
        definitions(pairs),
        join(tag("p", "Do it again:", class_="soft", style="margin-top:12px"), tag("pre", command))
        if command
        else None,
    )


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value))
    return str(value)


def percent(value: float | None) -> str:
    """0.7512 -> 75.12 %; None -> empty."""
    return "" if value is None else f"{value * 100:.2f} %"


def milliseconds(value: float | None) -> str:
    """Three significant digits, with the unit; None -> empty."""
    return "" if value is None else f"{value:.3g} ms"


def size(value: int | None) -> str:
    """95568 -> 95.6 kB; None -> empty."""
    if value is None:
        return ""
    for unit, factor in (("MB", 1_000_000), ("kB", 1000)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} B"
