"""Numbers as text, the same everywhere on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeloop import latency_text

Values = Mapping[str, Any]

AGREEMENT = {
    "top-1": "share of samples with the same best class as the float model",
    "cosine": "mean cosine similarity with the float model's output",
    "1 - relative error": "1 - relative error of the outputs against the float model's, mean over samples",
}


def percent(value: float | None) -> str:
    """0.7512 -> 75.12 %; None -> empty."""
    return "" if value is None else f"{value * 100:.2f} %"


def points(value: float) -> str:
    """A difference of fractions: -0.0038 -> -0.38 pt."""
    return f"{value * 100:+.2f} pt"


def milliseconds(value: float | None) -> str:
    """Three significant digits, with the unit; None -> empty."""
    return "" if value is None else latency_text.milliseconds(value)[0]


def size(value: float | None) -> str:
    """95568 -> 95.6 kB; None -> empty."""
    if value is None:
        return ""
    for unit, factor in (("MB", 1_000_000), ("kB", 1000)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:g} B"


def short_size(value: float) -> str:
    """For an axis: 50000 -> 50 kB."""
    return size(value).replace(".0 ", " ")


def count(value: int) -> str:
    """12501632 -> 12.5 M."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)


def number(value: float | None) -> str:
    """Three significant digits, without an exponent where that is as short; None -> empty."""
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def shown_bucket(report: Values) -> str:
    """The variant that numbers without a name of their own belong to, where there is one for each shape; else ""."""
    variants = list(report.get("variants") or ())
    of_shapes = report.get("kind") == "evaluate" or all(v.get("input_shapes") for v in variants)
    return str(variants[0].get("name")) if len(variants) > 1 and of_shapes else ""


def measured_on(profile: Values) -> str:
    """Device, delegate, threads and n: a latency is nothing without them."""
    parts = [str(profile.get("device", ""))]
    if profile.get("delegate"):
        parts.append(str(profile["delegate"]))
    if profile.get("threads"):
        parts.append(f"{profile['threads']} thread" + ("s" if profile["threads"] > 1 else ""))
    if profile.get("n"):
        parts.append(f"n = {profile['n']}")
    return ", ".join(part for part in parts if part)


def flat(value: object) -> str:
    """Nested values on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(flat, value))
    return str(value)
