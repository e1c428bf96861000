"""A board that is held back says so in the agent's reports, in words, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.telemetry.report import Report
from edgeloop_agent.config_reading import load_config
from edgeloop_agent.reports import reporting
from edgeloop_agent.reports.board_health import BoardHealth
from edgeloop_agent.run import run_agent
from edgeloop_agent.supervisor import supervisor
from support.agents import make_bundle
from support.boards import TREES, write_tree


def test_two_models_say_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "pi", TREES["rpi4"])
    monkeypatch.setattr(supervisor, "BoardHealth", lambda: BoardHealth(root=root))
    bundle = make_bundle(tmp_path / "digits.bundle")
    values = {"bundle": bundle, "source": "synthetic:", "count": 30, "rate": 60.0, "report_interval": 0.2}
    said: list[str] = []
    config = load_config({**values, "state": tmp_path / "state"})
    run_agent([replace(config, model="a"), replace(config, model="b")], said.append)
    assert len([line for line in said if "under-voltage since now" in line]) == 1


def test_under_voltage_is_an_event_with_its_fix_and_a_gauge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "pi", TREES["rpi4"])
    monkeypatch.setattr(supervisor, "BoardHealth", lambda: BoardHealth(root=root))
    made: list[Report] = []
    monkeypatch.setattr(reporting.NoOutlet, "submit", lambda _self, report: made.append(report))
    said: list[str] = []
    config = load_config(
        {
            "bundle": make_bundle(tmp_path / "digits.bundle"), "source": "synthetic:", "count": 60, "rate": 60.0,
            "report_interval": 0.2, "state": tmp_path / "state",
        }
    )  # fmt: skip
    run_agent([config], said.append)
    events = [event for report in made for event in report.events if event.kind == "throttling"]
    assert [event.detail.split(":")[0] for event in events] == ["under-voltage since now", "throttled since now"]
    assert "5 V 3 A" in events[0].detail
    assert len(made) >= 3
    assert all(report.gauges["throttle_flags"] == 0x50005 for report in made)
    assert len([line for line in said if line.startswith("throttling: under-voltage")]) == 1
