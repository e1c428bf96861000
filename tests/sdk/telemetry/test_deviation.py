"""Why a device is not as fast as its bundle's profile: every reason, and which one wins."""

from __future__ import annotations

import time
from typing import Any

import pytest

from edgeloop.telemetry.fleet.deviation import Expected, explain_deviation
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import DeviceView, describe
from edgeloop.telemetry.store.rows import StoredReport
from support.collecting import make_report

FIELDS = {"delegate_asked": "edgetpu", "delegate_ran": "edgetpu", "version": 3, "variant": "int8"}


def view(gauges: dict[str, float], invoke_ms: float = 10.0, **fields: Any) -> DeviceView:
    latency = {"invoke": Histogram.of_ms([invoke_ms] * 9)} if invoke_ms else {}
    report = make_report(1, latency=latency, gauges=gauges, **{**FIELDS, **fields})
    return describe([StoredReport(1, time.time(), report)])


ON_CPU = {"delegate_asked": "xnnpack", "delegate_ran": "xnnpack"}
SLOW = {"profile_p50_ms": 5.0}


@pytest.mark.parametrize(
    ("gauges", "fields", "expected", "kind"),
    [
        ({}, {}, Expected(), "no profile"),
        ({"profile_measured_on": 2.0}, {}, Expected(), "host profile"),
        ({"profile_measured_on": 1.0}, {}, Expected(), "other board"),
        ({"profile_p50_ms": 9.5}, {}, Expected(), "as profiled"),
        ({"profile_p50_ms": 50.0}, {}, Expected(), "as profiled"),
        (SLOW, {"invoke_ms": 0.0}, Expected(), "no profile"),
        (SLOW, {"delegate_ran": "xnnpack"}, Expected(), "fallback"),
        ({**SLOW, "throttle_flags": 4.0, "temperature_c": 82.0, "frequency_mhz": 1000.0}, {}, Expected(), "throttled"),
        ({**SLOW, "throttle_flags": float(0x40000)}, {}, Expected(), "none found"),
        ({**SLOW, "usb_mbps": 480.0}, {}, Expected(), "usb 2"),
        ({**SLOW, "usb_mbps": 5000.0}, {}, Expected(), "none found"),
        ({**SLOW, "usb_mbps": 480.0}, ON_CPU, Expected(), "none found"),
        (SLOW, {}, Expected(version=4), "other version"),
        (SLOW, {}, Expected(version=3, variant="edgetpu"), "other variant"),
        ({**SLOW, "load_1m": 5.2, "threads": 4.0}, {}, Expected(), "other load"),
        ({**SLOW, "load_1m": 4.5, "threads": 4.0}, {}, Expected(version=3, variant="int8"), "none found"),
        ({**SLOW, "throttle_flags": 4.0}, {"delegate_ran": "xnnpack"}, Expected(version=4), "fallback"),
    ],
)  # fmt: skip
def test_the_reason_is_found(gauges: dict[str, float], fields: dict[str, Any], expected: Expected, kind: str) -> None:
    found = explain_deviation(view(gauges, **fields), expected)
    assert found.kind == kind
    assert found.text
    if found.ratio is not None:
        assert found.ratio == pytest.approx(10.0 / gauges["profile_p50_ms"], rel=0.05)


def test_the_facts_are_in_the_words() -> None:
    hot = {**SLOW, "throttle_flags": 4.0, "temperature_c": 82.0, "frequency_mhz": 1000.0}
    assert "82 °C, 1000 MHz" in explain_deviation(view(hot)).text
    assert "USB 2 (480 Mbit/s)" in explain_deviation(view({**SLOW, "usb_mbps": 480.0})).text
