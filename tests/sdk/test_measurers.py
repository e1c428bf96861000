"""`measure(model) -> Measurement`: one interface for devices and emulators."""

from __future__ import annotations

import platform

import pytest

from edgeloop.bench.instructions import Counted, Instructions
from edgeloop.bench.measurement import Measurement, Measurer
from edgeloop.devices.measurers import InstructionMeasurer, check_measures
from edgeloop.errors import UsageError


class Fixed:
    device = "emulated:cortex-a72"

    def measure(self, model: object, name: str = "model") -> Counted:
        return Counted(name, self.device, "ai-edge-litert", 1, 1, Instructions(900, 500, 100, 0))


def test_instructions_are_a_measurement_that_says_what_it_is_not() -> None:
    measurer: Measurer = InstructionMeasurer(Fixed())
    found = measurer.measure_all({"a": b"", "b": b""})
    assert list(found) == ["a", "b"]
    assert found["a"].value == 500
    assert "instructions, not time" in found["a"].text()
    assert found["a"].profile is None, "no latency that a goal could be judged by"


def test_a_latency_reads_in_milliseconds() -> None:
    assert Measurement("m", "ssh://pi", 12.345, "ms", "median").text() == "12.3 ms on ssh://pi (median)"


@pytest.mark.parametrize("url", ["serial:///dev/ttyUSB0", "kitchen"])
def test_an_agent_measures_no_candidates(url: str) -> None:
    with pytest.raises(UsageError, match="an agent measures bundles"):
        check_measures(url)


def test_an_unknown_core_is_said_before_any_work() -> None:
    with pytest.raises(UsageError, match="no CPU 'cortex-z1'"):
        check_measures("emulated:cortex-z1")
    check_measures("emulated:cortex-a72")
    check_measures("ssh://pi@pi4.local")


def test_an_x86_host_ranks_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(UsageError, match="does not rank models"):
        check_measures("local:")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    check_measures("local:")
