"""What an agent reports of its bundle's bench profile, and of the port of its accelerator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop import probes
from edgeloop.bundle.manifest import Profile, Variant
from edgeloop.telemetry.wire.report_codec import decode_report, encode_report
from edgeloop_agent.reports.profiles import accelerator_gauges, profile_gauges
from edgeloop_agent.reports.tally import Identity, Tally
from support.boards import TREES, write_tree

PI4, PI5 = "Raspberry Pi 4 Model B Rev 1.1", "Raspberry Pi 5 Model B Rev 1.0"


def variants(device: str) -> tuple[Variant, ...]:
    measured = Profile(device, "xnnpack", 4, 500, 18.6, 21.1234, 25.0)
    int8 = Variant("int8", "models/int8.tflite", "0" * 64, 1, "int8", profile=measured)
    return int8, replace(int8, name="lite", profile=None)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (PI4, {"profile_p50_ms": 18.6, "profile_p95_ms": 21.1234, "profile_measured_on": 0.0}),
        (PI5, {"profile_measured_on": 1.0}),
        ("AMD EPYC 7763", {"profile_measured_on": 2.0}),
    ],
)
def test_only_figures_of_this_kind_of_board_are_told(tmp_path: Path, device: str, expected: dict[str, float]) -> None:
    root = write_tree(tmp_path, TREES["rpi4"])
    assert profile_gauges(variants(device), root=root) == {"int8": expected}


def test_the_same_host_is_this_board() -> None:
    assert profile_gauges(variants(probes.board_name()))["int8"]["profile_p50_ms"] == 18.6


def test_they_are_in_the_report_of_their_variant() -> None:
    who = Identity("pi", "0" * 15 + "1", "ic", 1, "int8", False)
    tally = Tally(who, profiles=profile_gauges(variants(probes.board_name())))
    times = {"time_s": 1.7e9, "uptime_s": 1.0, "period_s": 1.0}
    report = decode_report(encode_report(tally.take_report(**times, gauges={"usb_mbps": 480.0})))
    assert report.gauges["profile_p95_ms"] == 21.123
    assert report.gauges["usb_mbps"] == 480.0
    tally.variant = "lite"
    assert "profile_p95_ms" not in tally.take_report(**times, gauges={}).gauges


def test_the_port_of_a_stick_is_told_while_it_is_used(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/usb/devices/1-1"
    device.mkdir(parents=True)
    for name, value in {"idVendor": "18d1", "idProduct": "9302", "speed": "480", "busnum": "1", "devnum": "4"}.items():
        (device / name).write_text(value)
    assert accelerator_gauges("edgetpu", root=tmp_path) == {"usb_mbps": 480.0}
    assert accelerator_gauges("xnnpack", root=tmp_path) == {}
    assert accelerator_gauges("edgetpu", root=tmp_path / "none") == {}
