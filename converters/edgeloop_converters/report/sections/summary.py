"""The head of the page: what it is about, the verdict, goals against what was measured, and the numbers that matter."""

from __future__ import annotations

from collections.abc import Mapping

from edgeloop_converters.report.charts import bullet
from edgeloop_converters.report.html import Markup, soft, table, tag
from edgeloop_converters.report.sections.latency import Latencies
from edgeloop_converters.report.words import Values, measured_on, milliseconds, percent, points, shown_bucket, size


def title_of(report: Values) -> str:
    return f"{report.get('name', 'model')} {report.get('version') or ''}".strip()


def summary(report: Values, device: str, latency: Mapping[str, Latencies]) -> Markup:
    """Header with verdict and reasons, goals, cards."""
    gate = report.get("gate") or {}
    said, kind, sign = _verdict(report)
    reasons = [*gate.get("reasons", ()), *gate.get("unverified", ()), *_severe(report)]
    listed = [tag("li", text) for text in reasons]
    what = {"evaluate": "evaluated"}.get(str(report.get("kind")), "converted")
    made = (report.get("provenance") or {}).get("created")
    about = [f"{what} for {report['target']}" if report.get("target") else what, str(made) if made else ""]
    return tag(
        "header",
        tag("h1", title_of(report)),
        tag("p", " · ".join(a for a in about if a), class_="soft"),
        _buckets(report),
        tag(
            "div",
            tag("p", tag("span", sign, class_="sign", aria_hidden="true"), tag("span", said), class_="said"),
            tag("ul", listed) if listed else None,
            _goals(report),
            _next(report),
            class_=f"verdict {kind}".strip(),
        ),
        _cards(report, device, latency),
    )


def _next(report: Values) -> list[Markup]:
    """What to try after a missed goal."""
    steps = report.get("next_steps") or ()
    return [tag("p", "What to try next, one of:"), tag("ul", [tag("li", step) for step in steps])] if steps else []


def _buckets(report: Values) -> Markup | None:
    """Whose numbers these are, where there is a variant for each shape."""
    one = shown_bucket(report)
    if not one:
        return None
    count = len(report["variants"])
    return soft(f"{count} variants, one per shape; every goal is judged for each. What names no variant is of {one}.")


def _severe(report: Values) -> list[str]:
    """Findings on data and contract that make good numbers worthless."""
    found = [f for f in report.get("findings") or () if f.get("severity") == "severe"]
    return [f"{f.get('what')} -> {f.get('fix')}" if f.get("fix") else str(f.get("what")) for f in found]


def _verdict(report: Values) -> tuple[str, str, str]:
    """(words, CSS class, sign that says the same without color)."""
    said, kind, sign = _judged(report)
    if not _severe(report) or kind == "failed":
        return said, kind, sign
    return f"{said}, on data or a contract that look wrong", "doubtful", "?"


def _judged(report: Values) -> tuple[str, str, str]:
    """By the goals alone."""
    gate = report.get("gate") or {}
    goals = report.get("goals") or {}
    guesses, unverified = bool(gate.get("guesses")), [*gate.get("unverified", ())]
    if not gate.get("passed", True):
        return "goals not met", "failed", "✗"
    if not goals:
        return "no goals were set" + (", and the model does no better than guessing" if guesses else ""), "", "–"
    if guesses:
        return f"goals {gate.get('verdict')}", "doubtful", "?"
    if unverified:
        return f"goals {gate.get('verdict')}", "passed", "✓"
    return "all goals met", "passed", "✓"


def _goals(report: Values) -> Markup | None:
    goals = report.get("goals") or {}
    variant = (report.get("variants") or [{}])[0]
    metrics, profile = variant.get("metrics") or {}, variant.get("profile") or {}
    missed = " ".join((report.get("gate") or {}).get("unverified", ()))
    rows: list[list[object]] = []
    drop, before, now = goals.get("max_drop"), metrics.get("float"), metrics.get("this")
    if drop is not None and before is not None and now is not None:
        lost = before - now
        picture = bullet("drop against its limit", max(0.0, lost), drop, is_met=lost <= drop + 1e-9)
        rows.append(
            [
                f"drop of {metrics.get('metric')}",
                f"at most {drop * 100:g} pt",
                f"{lost * 100:.2f} pt lost" if lost >= 0 else f"{-lost * 100:.2f} pt gained",
                picture,
            ]
        )
    least, agreement = goals.get("min_agreement"), metrics.get("agreement")
    if least is not None and agreement is not None:
        met = agreement >= least - 1e-9
        picture = bullet("agreement against its limit", agreement, least, is_met=met, at_least=True)
        rows.append(["agreement with float", f"at least {percent(least)}", percent(agreement), picture])
    most, used = goals.get("max_bytes"), variant.get("bytes")
    if most is not None and used is not None:
        picture = bullet("size against its limit", used, most, is_met=used <= most)
        rows.append(["model size", f"at most {size(most)}", size(used), picture])
    limit, p95 = goals.get("p95_ms"), profile.get("p95_ms")
    if limit is not None:
        if p95 is None or "p95" in missed:
            rows.append(["p95 latency", f"at most {milliseconds(limit)}", "not judged", None])
        else:
            picture = bullet("p95 against its limit", p95, limit, is_met=p95 <= limit)
            rows.append(["p95 latency", f"at most {milliseconds(limit)}", milliseconds(p95), picture])
    return table(["goal", "asked for", "measured", ""], rows, class_="goals") if rows else None


def _cards(report: Values, device: str, latency: Mapping[str, Latencies]) -> Markup:
    variant = (report.get("variants") or [{}])[0]
    metrics, profile = variant.get("metrics") or {}, variant.get("profile") or {}
    metric = str(metrics.get("metric") or "metric")
    is_float = variant.get("scheme") == "float"
    scheme = shown_bucket(report) or variant.get("scheme", "this")
    if variant.get("float_ops"):
        scheme = f"{scheme}, {variant['float_ops']} of {variant.get('ops', '?')} ops float"
    before, now = metrics.get("float"), metrics.get("this")
    cards: list[tuple[str, str, str]] = []
    if metric != "agreement":
        cards.append((f"{metric}, float", percent(before), ""))
        if not is_float:
            moved = "" if before is None or now is None else f"{points(now - before)} against float"
            cards.append((f"{metric}, {scheme}", percent(now), moved))
    if not is_float:
        cards.append(("agreement with float", percent(metrics.get("agreement")), ""))
    was, used = (report.get("float") or {}).get("bytes"), variant.get("bytes")
    smaller = f"{used / was:.0%} of float's {size(was)}" if was and used and not is_float else ""
    cards.append(("model size", size(used), smaller))
    total = latency.get("total")
    if total is not None:
        p50, p95 = milliseconds(total.percentile(50)), milliseconds(total.percentile(95))
        cards.append((f"p95 of a frame, all stages, on {device or 'the device'}", p95, f"p50 {p50}"))
    elif profile:
        p50, p95 = milliseconds(profile.get("p50_ms")), milliseconds(profile.get("p95_ms"))
        cards.append((f"p95 of the model alone on {measured_on(profile)}", p95, f"p50 {p50}" if p50 else ""))
    return tag(
        "div",
        (tag("div", tag("b", v), tag("small", k), tag("small", n, class_="note") if n else None, class_="card")
         for k, v, n in cards if v),
        class_="cards",
    )  # fmt: skip
