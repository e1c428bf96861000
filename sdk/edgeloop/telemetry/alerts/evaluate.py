"""Which alerts begin and end. Pure: rows, what stood before and the time in, what stands now and what changed out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edgeloop.telemetry.alerts.rules import Rule
from edgeloop.telemetry.fleet.row import FleetRow

FORGOTTEN_S = 7 * 86_400.0
"""A device that was silent for so long before anybody watched is not missed."""


@dataclass(frozen=True)
class Subject:
    """What an alert is about."""

    rule: str
    device: str
    bundle: str


@dataclass(frozen=True)
class Standing:
    """firing: it was told. since_s: since when it has been otherwise (not firing: bad; firing: cleared); None: it is as
    told."""

    firing: bool
    since_s: float | None


@dataclass(frozen=True)
class Change:
    """An alert that begins (fires) or is over. value: what was measured, where it is a number."""

    subject: Subject
    fires: bool
    text: str
    value: float | None
    severity: str


def evaluate(
    rules: Sequence[Rule],
    rows: Iterable[FleetRow],
    before: Mapping[Subject, Standing],
    now_s: float,
    *,
    watching_since_s: float = 0.0,
) -> tuple[dict[Subject, Standing], list[Change]]:
    """(what stands now, what changed). An alert whose row is gone is over.

    watching_since_s: when the collector started; nobody was silent before somebody listened.
    """
    standing: dict[Subject, Standing] = {}
    changes: list[Change] = []
    for row in rows:
        for rule in rules:
            if (rule.bundle and rule.bundle != row.bundle) or (
                rule.device and not fnmatchcase(row.device, rule.device)
            ):
                continue
            subject = Subject(rule.name, row.device, row.bundle)
            was = before.get(subject)
            is_bad, value, text = _judge(rule, row, now_s, watching_since_s, firing=was is not None and was.firing)
            now, change = _step(rule, subject, was, is_bad, now_s)
            if now is not None:
                standing[subject] = now
            if change is not None:
                changes.append(Change(subject, change, text, value, rule.severity))
    known = {rule.name: rule for rule in rules}
    for subject, was in before.items():
        if was.firing and subject not in standing and not any(c.subject == subject for c in changes):
            reason = "the model runs there no more" if subject.rule in known else "the rule is gone"
            severity = known[subject.rule].severity if subject.rule in known else "warning"
            changes.append(Change(subject, False, reason, None, severity))
    return standing, changes


def _step(
    rule: Rule, subject: Subject, was: Standing | None, is_bad: bool | None, now_s: float
) -> tuple[Standing | None, bool | None]:
    """(what stands, whether it fires or is over now; None: nothing to tell)."""
    if is_bad is None:  # not known just now: nothing moves
        return was, None
    firing = was is not None and was.firing
    if is_bad == firing:
        return (Standing(True, None) if firing else None), None
    since_s = was.since_s if was is not None and was.since_s is not None else now_s
    if now_s - since_s < rule.for_s:
        return Standing(firing, since_s), None
    return (Standing(True, None), True) if is_bad else (None, False)


def _judge(
    rule: Rule, row: FleetRow, now_s: float, watching_since_s: float, *, firing: bool
) -> tuple[bool | None, float | None, str]:
    """(bad, None: not known; the number; the words)."""
    quiet_s = now_s - max(row.received_s, watching_since_s)
    silent = quiet_s > max(rule.intervals * row.period_s, 1.0)
    if rule.when == "silent":
        if not firing and now_s - row.received_s > FORGOTTEN_S:
            return None, None, ""
        return silent, None, f"no report for {rule.intervals:g} intervals" if silent else "reports again"
    if now_s - row.received_s > row.silent_after_s:
        return None, None, ""  # what it said last is old
    if rule.when in _STATES:
        is_so, words = _STATES[rule.when](row)
        return is_so, None, words
    value = _number(rule.when, row)
    if value is None:
        return None, None, ""
    limit = rule.cleared_at if firing else (rule.above if rule.above is not None else rule.below)
    assert limit is not None
    over = value > limit if rule.above is not None else value < limit
    side, threshold = ("above", rule.above) if rule.above is not None else ("below", rule.below)
    text = _WORDS[rule.when].format(f"{value:.4g}") + (f", {side} {threshold:g}" if over else ", well again")
    return over, value, text


_WORDS = {
    "p50_ms": "p50 {} ms",
    "p95_ms": "p95 {} ms",
    "p99_ms": "p99 {} ms",
    "profile_ratio": "{} times the profile's p95",
    "temperature_c": "{} °C",
    "errors_per_min": "{} errors per minute",
    "inferences_per_s": "{} inferences per s",
}


def _number(name: str, row: FleetRow) -> float | None:
    if name == "profile_ratio":
        return row.p95_ms / row.profile_p95_ms if row.p95_ms is not None and row.profile_p95_ms else None
    if name == "errors_per_min":
        return row.errors / row.period_s * 60 if row.period_s > 0 else None
    value: float | None = getattr(row, name)
    return value


def _fallback(row: FleetRow) -> tuple[bool, str]:
    ran = row.delegate_ran or "no delegate"
    return row.fell_back, f"runs on {ran}" + (f" instead of {row.delegate_asked}" if row.fell_back else "")


def _throttled(row: FleetRow) -> tuple[bool | None, str]:
    return row.throttled, "the board holds itself back" if row.throttled else "the board runs free again"


def _device_alert(row: FleetRow) -> tuple[bool, str]:
    return bool(row.alerts), ", ".join(sorted(row.alerts)) if row.alerts else "the device is well again"


_STATES = {"fallback": _fallback, "throttled": _throttled, "device_alert": _device_alert}
