"""What `edgeloop monitor` shows, as lines: the fleet, or one device. Pure: from `/v1/devices` and a look."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgeloop.cli._terminal import ALARM, BOLD, DIM, PLAIN, Line, Look, width
from edgeloop.cli._words import counted
from edgeloop.telemetry.report import HEADLINE_STAGE, STAGES
from edgeloop.telemetry.summary import threads_text

STALE_S = 120
_EVENTS = 10


def _figure(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    def read(device: Mapping[str, Any]) -> float | None:
        value: float | None = device["stages"].get(HEADLINE_STAGE, {}).get(name)
        return value

    return read


ORDERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "p50": _figure("p50_ms"),
    "p95": _figure("p95_ms"),
    "p99": _figure("p99_ms"),
    "rate": lambda device: device["inferences_per_s"],
    "temperature": lambda device: device["gauges"].get("temperature_c"),
    "seen": lambda device: -device["received_s"],
    "device": lambda device: (device["device"], device["bundle"]),
    "bundle": lambda device: (device["bundle"], device["version"], device["device"]),
}
"""What `--sort` takes. Numbers: the largest (slowest, hottest, longest silent) first; names in their order."""

_NAMES = ("device", "bundle")


def ordered(devices: Sequence[Mapping[str, Any]], order: str) -> list[Mapping[str, Any]]:
    """By one of ORDERS; those that have no such figure come last."""
    key = ORDERS[order]
    if order in _NAMES:
        return sorted(devices, key=key)
    have = [device for device in devices if key(device) is not None]
    without = [device for device in devices if key(device) is None]
    return sorted(have, key=key, reverse=True) + sorted(without, key=ORDERS["device"])


@dataclass(frozen=True)
class _Column:
    head: str
    cells: int
    right: bool = False
    needs: int = 0  # columns of the terminal below which it is left out


def _columns(look: Look) -> list[_Column]:
    shown = [
        _Column("device", 12), _Column("model", 11), _Column("ran on", 8), _Column("p50 ms", 7, True),
        _Column("p95 ms", 7, True), _Column("p99 ms", 7, True, 66), _Column("trend p95", 9, needs=76),
        _Column("seen", 6, True),
    ]  # fmt: skip
    shown = [column for column in shown if look.columns >= column.needs]
    spare = look.columns - sum(column.cells for column in shown) - (len(shown) - 1)
    shares = {"device": 0.4, "model": 0.3, "trend p95": 0.3 if spare > 10 else 0.0}
    total = sum(shares.get(column.head, 0.0) for column in shown) or 1.0
    made = []
    for column in shown:
        more = int(max(spare, 0) * shares.get(column.head, 0.0) / total)
        made.append(_Column(column.head, column.cells + min(more, 30), column.right))
    return made


def fleet_lines(devices: Sequence[Mapping[str, Any]], now_s: float, look: Look) -> list[list[Line]]:
    """Head first, then the lines of each device: its figures, and what somebody should look at, if anything."""
    columns = _columns(look)
    head = " ".join(look.fit(column.head, column.cells, right=column.right) for column in columns)
    blocks = [[Line(head.rstrip(), DIM)]]
    for device in devices:
        view = device["stages"].get(HEADLINE_STAGE)
        age_s = now_s - device["received_s"]
        texts = {
            "device": device["device"],
            "ran on": device["delegate_ran"] or "-",
            "p50 ms": _ms(view["p50_ms"]) if view else "-",
            "p95 ms": _ms(view["p95_ms"]) if view else "-",
            "p99 ms": _ms(view["p99_ms"]) if view else "-",
            "seen": _age(age_s),
        }
        cells = [
            _SPECIAL[column.head](device, look, column.cells) if column.head in _SPECIAL
            else look.fit(texts[column.head], column.cells, right=column.right)
            for column in columns
        ]  # fmt: skip
        lines = [Line(" ".join(cells).rstrip(), DIM if age_s > STALE_S else PLAIN)]
        if noted := remarks(device, now_s):
            lines.append(Line(look.fit("  ! " + ", ".join(noted), look.columns).rstrip(), ALARM))
        blocks.append(lines)
    return blocks


def _trend(device: Mapping[str, Any], look: Look, cells: int) -> str:
    bars = look.bars(device["trend_p95_ms"], cells)
    return bars + " " * (cells - len(bars))


def _short_model(device: Mapping[str, Any], look: Look, cells: int) -> str:
    """The version stays where the name must be cut."""
    whole, version = _model(device), f" v{device['version']}"
    if width(look.plain(whole)) <= cells or len(version) > cells - 3:
        return look.fit(whole, cells)
    name = look.fit(device["bundle"] or "-", cells - len(version)).rstrip()
    return look.fit(name + version, cells)


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any], Look, int], str]] = {"trend p95": _trend, "model": _short_model}


def remarks(device: Mapping[str, Any], now_s: float) -> list[str]:
    """What somebody should look at."""
    noted = []
    quiet_s = now_s - device["received_s"]
    if quiet_s > device.get("silent_after_s", math.inf):  # an older collector does not say it
        noted.append(f"SILENT for {_age(quiet_s)}")
    if device["delegate_asked"] not in ("", device["delegate_ran"]):
        noted.append(f"not {device['delegate_asked']}")
    noted += [f"ALERT {name} {_age(seconds)}" for name, seconds in device.get("alerts", {}).items()]
    if device["throttled"]:
        celsius = device["gauges"].get("temperature_c")
        noted.append("throttled" if celsius is None else f"throttled at {celsius:.0f} C")
    if device["unsigned"]:
        noted.append("unsigned")
    return noted


def device_lines(
    devices: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]], now_s: float, look: Look
) -> list[Line]:
    """Everything of one device: of each of its models stages, sparkline, gauges and counters; then the last events."""
    lines: list[Line] = []
    for device in devices:
        lines += [*_one_model(device, now_s, look), Line("")]
    if events:
        lines.append(Line("events", DIM))
        for event in list(events)[-_EVENTS:][::-1]:
            when = datetime.fromtimestamp(event["time_s"]).strftime("%m-%d %H:%M:%S")
            lines.append(Line(look.fit(f"  {when} {event['kind']}: {event['detail']}", look.columns).rstrip()))
    return lines


def _one_model(device: Mapping[str, Any], now_s: float, look: Look) -> list[Line]:
    age_s = now_s - device["received_s"]
    on = [f"on {device['delegate_ran'] or '-'}, {device['delegated_share']:.0%} of ops", device["runtime"]]
    on += [threads_text(device["gauges"])]
    made = [f"up {_age(device['uptime_s'])}", f"seen {_age(age_s)} ago", f"report {device['seq']} of {device['boot']}"]
    if device["inferences_per_s"] is not None:
        made.append(f"{device['inferences_per_s']:.1f} inferences/s")
    lines = [Line(look.fit(f"{device['device']}  {_model(device)}", look.columns).rstrip(), BOLD)]
    lines += _wrapped(", ".join(word for word in on if word), look)
    lines += _wrapped(", ".join(made), look, DIM if age_s > STALE_S else PLAIN)
    lines += [Line(look.fit(f"! {word}", look.columns).rstrip(), ALARM) for word in remarks(device, now_s)]
    names = ("p50 ms", "p95 ms", "p99 ms", "max ms", "n")
    lines.append(Line(f"{'stage':<12}" + "".join(f"{name:>9}" for name in names), DIM))
    stages = [name for name in STAGES if name in device["stages"]]
    for stage in [*stages, *(name for name in device["stages"] if name not in STAGES)]:
        view = device["stages"][stage]
        figures = [_ms(view[name]) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")] + [_count(view["n"])]
        lines.append(Line(look.fit(stage, 12) + "".join(f"{figure:>9}" for figure in figures)))
    trend = device["trend_p95_ms"]
    if trend:
        title = (
            f"p95 of {HEADLINE_STAGE}, last {counted(len(trend), 'report')}: {_ms(min(trend))} to {_ms(max(trend))} ms"
        )
        lines += [Line(title, DIM), Line(look.bars(trend, look.columns))]
    hits = [f"{level.upper()} hits {rate['rate']:.0%}" for level, rate in device.get("caches", {}).items()]
    for title, words in (
        ("caches", hits),
        ("gauges", [f"{name} {_number(value)}" for name, value in device["gauges"].items()]),
        ("counters", [f"{name} {count}" for name, count in device["counters"].items()]),
    ):
        if words:
            lines += _wrapped(f"{title}: {', '.join(words)}", look)
    return lines


def _wrapped(text: str, look: Look, style: str = PLAIN) -> list[Line]:
    made = textwrap.wrap(look.plain(text), look.columns, subsequent_indent="  ", max_lines=6, placeholder=" ...")
    return [Line(line, style) for line in made]


def title_line(data: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], where: str, look: Look) -> Line:
    """How much there is, how much of it is shown, and where it was read."""
    totals = data["totals"]
    counts = ", ".join(counted(totals[f"{what}s"], what) for what in ("device", "report", "inference"))
    names = len({device["device"] for device in shown})
    some = "" if names == totals["devices"] else f"{names} of "
    return Line(look.fit(f"{some}{counts}  {where}", look.columns).rstrip(), BOLD)


def _model(device: Mapping[str, Any]) -> str:
    return f"{device['bundle'] or '-'} v{device['version']} {device['variant']}".rstrip()


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ms(value: float) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def _count(n: int) -> str:
    """In five characters."""
    for limit, unit, name in ((100_000, 1, ""), (10_000_000, 1_000, "k"), (10_000_000_000, 1_000_000, "M")):
        if n < limit:
            return f"{n // unit}{name}"
    return f"{n // 1_000_000_000}G"


def _age(seconds: float) -> str:
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"
