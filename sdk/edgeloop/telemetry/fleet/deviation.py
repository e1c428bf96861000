"""Why a device's latency is not that of the bundle's bench profile. Pure: what a report says is all that is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeloop.telemetry.overview import DeviceView
from edgeloop.telemetry.report import HEADLINE_STAGE, HOST, OTHER_BOARD, THIS_BOARD

TOLERANCE = 1.15
"""Median against median; a board's own spread between runs stays below it."""
USB3_MBPS = 5000.0
FOREIGN_LOAD = 1.0
"""Runnable processes beside the model's threads, on average over a minute, that count as other work."""


@dataclass(frozen=True)
class Reason:
    """kind: a word for programs; text: one line for people; ratio: median here / in the profile, None without one."""

    kind: str
    text: str
    ratio: float | None = None


@dataclass(frozen=True)
class Expected:
    """What most devices with this bundle run; "" and 0 where that is not known."""

    version: int = 0
    variant: str = ""


def explain_deviation(view: DeviceView, expected: Expected = Expected()) -> Reason:
    """The first of the known reasons that holds, the strongest first; "none found" where it is slower without one."""
    invoke, profile_ms = view.stages.get(HEADLINE_STAGE), view.gauges.get("profile_p50_ms")
    measured_on = int(view.gauges.get("profile_measured_on", THIS_BOARD))
    if profile_ms is None or profile_ms <= 0 or invoke is None:
        if measured_on == HOST:
            return Reason("host profile", "the bundle was measured on the host that made it: not comparable")
        if measured_on == OTHER_BOARD:
            return Reason("other board", "the bundle was measured on another kind of board: not comparable")
        return Reason("no profile", "the bundle brings no profile that was measured on this kind of board")
    ratio = invoke.p50_ms / profile_ms
    if ratio <= TOLERANCE:
        faster = ratio < 1 / TOLERANCE
        return Reason("as profiled", "faster than its profile" if faster else "as fast as its profile", ratio)
    for find in _CAUSES:
        found = find(view, expected)
        if found is not None:
            return Reason(*found, ratio)
    return Reason("none found", "slower than its profile; the reports show no reason", ratio)


_Found = tuple[str, str] | None


def _fallback(view: DeviceView, _expected: Expected) -> _Found:
    if not view.delegate_asked or view.delegate_asked == view.delegate_ran:
        return None
    return "fallback", f"runs on {view.delegate_ran or 'no delegate'} instead of {view.delegate_asked}"


def _throttled(view: DeviceView, _expected: Expected) -> _Found:
    if not view.throttled:
        return None
    celsius, mhz = view.gauges.get("temperature_c"), view.gauges.get("frequency_mhz")
    facts = [f"{celsius:.0f} °C"] if celsius is not None else []
    facts += [f"{mhz:.0f} MHz"] if mhz is not None else []
    return "throttled", "the board holds itself back" + (f" ({', '.join(facts)})" if facts else "")


def _usb2(view: DeviceView, _expected: Expected) -> _Found:
    mbps = view.gauges.get("usb_mbps")
    if mbps is None or not 0 < mbps < USB3_MBPS or "edgetpu" not in view.delegate_ran:
        return None
    return "usb 2", f"the Coral stick is on USB 2 ({mbps:.0f} Mbit/s): use a blue port and a USB 3 cable"


def _other_version(view: DeviceView, expected: Expected) -> _Found:
    if expected.version and view.version != expected.version:
        return "other version", f"runs version {view.version}, most devices run {expected.version}"
    if expected.variant and view.variant != expected.variant:
        return "other variant", f"runs the variant {view.variant}, most devices run {expected.variant}"
    return None


def _co_load(view: DeviceView, _expected: Expected) -> _Found:
    load, threads = view.gauges.get("load_1m"), view.gauges.get("threads", 1.0)
    if load is None or load - threads < FOREIGN_LOAD:
        return None
    count = f"{threads:.0f} thread{'' if threads == 1 else 's'}"
    return "other load", f"load {load:.1f} while the model uses {count}: something else works there"


_CAUSES: tuple[Callable[[DeviceView, Expected], _Found], ...] = (
    _fallback,
    _throttled,
    _usb2,
    _other_version,
    _co_load,
)
"""In the order of how surely they explain it."""
