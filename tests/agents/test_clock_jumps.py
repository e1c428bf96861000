"""A board without a clock of its own starts in 1970 and jumps when the network comes: only stamps may notice."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.bundle import Bundle
from edgeloop_agent.config_reading import load_config
from edgeloop_agent.run import run_agent
from edgeloop_agent.service.event_log import read_events
from support.agents import make_bundle

JUMPS_S = (0.0, 1.8e9, 5.0, 4.1e9, 1.8e9)


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = itertools.cycle(JUMPS_S)
    monkeypatch.setattr(time, "time", lambda: next(times))


@pytest.mark.slow
@pytest.mark.usefixtures("jumping_clock")
def test_a_wall_clock_that_jumps_changes_stamps_only(tmp_path: Path) -> None:
    said: list[str] = []
    config = load_config(
        {
            "bundle": make_bundle(tmp_path / "digits.bundle"), "source": "synthetic:", "count": 150, "rate": 100.0,
            "state": tmp_path / "state", "report_interval": 0.2, "telemetry": ("http://127.0.0.1:9",),
            "delegates": ("edgetpu", "xnnpack"), "stop_timeout": 0.4,
        }
    )  # fmt: skip
    began = time.monotonic()
    summary = run_agent([config], said.append).summary
    assert (summary["inferences"], summary["restarts"], summary["end"]) == (150, 0, "count"), said
    assert summary["reports"]["made"] >= 5
    assert summary["reports"]["waiting"] == summary["reports"]["made"]  # the spool took every one of them
    assert 1.4 < time.monotonic() - began < 120
    assert 1.0 < summary["seconds"] < 120
    assert [event["kind"] for event in read_events(tmp_path / "state")][:2] == ["quarantine", "fallback"]


def test_a_bundle_that_is_unpacked_in_the_past_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the unpacked bundles the last ones stay: the newest by its use, not by a clock that starts over."""
    folder = tmp_path / "bundles"
    for version in range(3):
        path = make_bundle(tmp_path / f"{version}.bundle", delegates=("cpu",) * (version + 1))
        Bundle.open(path).stage(folder)
    monkeypatch.setattr(time, "time_ns", lambda: 10**9)
    path = make_bundle(tmp_path / "last.bundle", delegates=("xnnpack",))
    staged = Bundle.open(path).stage(folder)
    assert staged.path.is_dir()
    assert len([entry for entry in os.scandir(folder) if entry.is_dir()]) == 3
