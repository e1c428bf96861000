"""A fallback that lasts is an alert: in the agent's reports, and wherever these are looked at."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from edgeloop.cli._monitor_text import fleet_lines
from edgeloop.cli._terminal import Look
from edgeloop.telemetry.collector.server import start_collector
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.report import alerts_of
from edgeloop_agent.reports.tally import RunsOn
from edgeloop_agent.supervisor.fallback_clock import ALERT_GAUGE, FALLBACK_GAUGE, FallbackClock, is_fallback
from support.agents import Agents, make_bundle
from support.delegate_lib import build_delegate, external

CHIP, CPU = RunsOn("edgetpu", "edgetpu", 1, 1), RunsOn("xnnpack", "xnnpack", 9, 9)


def test_a_fallback_is_an_alert_once_when_it_has_lasted_and_over_once():
    clock = FallbackClock("edgetpu", 600)
    assert (clock.look(CHIP, 0), clock.gauges(0)) == (None, {})
    assert clock.look(CPU, 100) is None
    assert clock.look(CPU, 699) is None
    assert clock.gauges(699) == {FALLBACK_GAUGE: 599}
    assert clock.look(CPU, 701) == ("alert", "on xnnpack for 601 s now, meant to run on edgetpu")
    assert clock.look(CPU, 900) is None
    assert clock.gauges(900) == {FALLBACK_GAUGE: 800, ALERT_GAUGE: 800}
    assert clock.look(CHIP, 901) == ("alert_over", "edgetpu runs again")
    assert (clock.look(CHIP, 902), clock.gauges(902)) == (None, {})


def test_a_library_that_takes_no_op_is_a_fallback_and_xnnpack_that_takes_none_is_not():
    assert is_fallback("edgetpu:usb:0", RunsOn("edgetpu:usb:0", "xnnpack", 9, 9))
    assert not is_fallback("edgetpu:usb:0", RunsOn("edgetpu:usb:0", "edgetpu", 1, 9))
    assert not is_fallback("xnnpack", RunsOn("xnnpack", "cpu", 0, 16))


def test_it_is_in_the_reports_the_overview_the_terminal_and_the_metrics(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    missing = external(build_delegate(), device="none")
    with start_collector(f"sqlite:///{tmp_path}/telemetry.db") as collector:
        agent = agents.start(
            "--bundle", make_bundle(tmp_path / "d.bundle"), "--source", "synthetic:", "--rate", 50, "--device", "pi-1",
            "--delegate", missing, "--delegate", "xnnpack", "--fallback-alert", 0.3, "--report-interval", 0.2,
            "--telemetry", collector.url,
        )  # fmt: skip
        agent.wait_until_said("alert: on xnnpack for 0 s now, meant to run on external:")
        summary = agent.stop()
        overview = Overview(collector.store)
        (view,) = overview.devices()
        reports = [each.report for each in collector.store.reports()]
        with urllib.request.urlopen(f"{collector.url}/metrics") as answer:
            metrics = answer.read().decode()
        shown = fleet_lines(overview.to_dict(view.received_s)["devices"], view.received_s, Look())
    assert [event["kind"] for event in summary["events"]] == ["quarantine", "fallback", "alert"]
    assert any("ALERT fallback" in line.text for block in shown for line in block)
    assert 0.3 < view.alerts["fallback"] < 300
    assert alerts_of(reports[-1]) == view.alerts
    assert 'edgeloop_device_alert_seconds{device="pi-1",bundle="digits",alert="fallback"}' in metrics
