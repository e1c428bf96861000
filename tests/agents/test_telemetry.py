"""What the agent reports, and that every report arrives once, whatever happens to the collector."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.telemetry.collector.server import CollectorHandle, start_collector
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.report import STAGES, Report
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import decode_report
from edgeloop_agent.reports.publisher import Publisher
from edgeloop_agent.service.statedir import locked_state
from support.agents import Agents, frames, golden_of, make_bundle
from support.delegate_lib import RESHAPE, build_delegate, external
from support.reports import small_report


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "digits.bundle", golden=golden_of(frames(2)))


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/telemetry.db"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def stored(collector: CollectorHandle, device: str) -> list[Report]:
    return [each.report for each in collector.store.reports() if each.report.device == device]


def total(reports: list[Report], counter: str) -> int:
    return sum(report.counters.get(counter, 0) for report in reports)


def check_complete(reports: list[Report], summary: dict) -> None:
    """Every report once, and the sums are the agent's own."""
    assert sorted(r.seq for r in reports) == list(range(1, summary["reports"]["made"] + 1))
    for counter in ("frames", "inferences", "errors", "drops"):
        assert total(reports, counter) == summary[counter], counter
    for stage in STAGES:
        assert sum(r.latency[stage].count for r in reports if stage in r.latency) == summary["latency"][stage]["n"]


def test_reports_say_what_ran_and_add_up(agents: Agents, bundle: Path, store_url: str) -> None:
    with start_collector(store_url) as collector:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--rate", 200, "--count", 200, "--device", "pi-1",
            "--telemetry", collector.url, "--report-interval", 0.2,
        )  # fmt: skip
        reports = stored(collector, "pi-1")
    assert code == 0, said
    check_complete(reports, summary)
    assert summary["reports"] == {
        "made": len(reports),
        "delivered": len(reports),
        "waiting": 0,
        "rejected": 0,
        "lost": 0,
    }
    assert len(reports) >= 4
    last = reports[-1]
    assert (last.bundle, last.version, last.variant, last.unsigned) == ("digits", 7, "int8", False)
    assert (last.delegate_asked, last.delegate_ran) == ("xnnpack", "xnnpack")
    assert 0 < last.delegated_ops <= last.total_ops
    assert last.gauges["rss_bytes"] > 20e6
    assert last.gauges["threads"] == 1
    assert {r.boot for r in reports} == {last.boot}


def test_the_last_report_is_about_its_own_period_and_the_worker_that_did_it(
    agents: Agents, bundle: Path, store_url: str
) -> None:
    with start_collector(store_url) as collector:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--rate", 100, "--count", 130, "--device", "pi-1",
            "--telemetry", collector.url, "--report-interval", 1,
        )  # fmt: skip
        *_, before, last = stored(collector, "pi-1")
        (view,) = Overview(collector.store).devices()
    assert code == 0, said
    # Never more than it was allowed to run: what it counts happened in its period (the source may catch up on 0.1 s).
    assert last.counters["inferences"] <= (last.period_s + 0.15) * 100
    per_s = last.counters["inferences"] / last.period_s
    assert last.gauges["fps"] == pytest.approx(per_s, rel=0.01 + 0.001 / last.period_s)  # the period is in whole ms
    # Supervisor and worker, though the worker has gone.
    assert last.gauges["rss_bytes"] > 0.9 * before.gauges["rss_bytes"] > 40e6
    assert view.inferences_per_s is not None
    assert view.inferences_per_s <= 120
    assert summary["inferences"] == 130


def test_when_no_frame_fits_that_is_reported(agents: Agents, bundle: Path, store_url: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((5, 3), np.float32))
    with start_collector(store_url) as collector:
        code, _, _ = agents.run(
            "--bundle", bundle, "--source", f"npz:{tmp_path / 'bad.npz'}", "--device", "pi-1",
            "--telemetry", collector.url,
        )  # fmt: skip
        (last,) = stored(collector, "pi-1")
    assert code == 2
    assert (last.counters["errors"], [event.kind for event in last.events]) == (5, ["bad_input", "failed"])


def test_a_fallback_is_reported(agents: Agents, bundle: Path, store_url: str) -> None:
    crashing = external(build_delegate(), claim_op=RESHAPE, crash_invoke=1, after=20)
    with start_collector(store_url) as collector:
        _, summary, _ = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--count", 100, "--device", "pi-1",
            "--delegate", crashing, "--delegate", "cpu", "--telemetry", collector.url,
        )  # fmt: skip
        reports = stored(collector, "pi-1")
    check_complete(reports, summary)
    events = [event for report in reports for event in report.events]
    assert [e.kind for e in events] == ["quarantine", "fallback"]
    # No report mixes latencies of two delegates.
    assert [(r.delegate_asked[:8], r.delegate_ran[:8]) for r in reports] == [("external", "external"), ("cpu", "cpu")]
    assert [r.counters["inferences"] for r in reports] == [18, 81]  # two of the 20 good invokes were the self-test's
    assert total(reports, "worker_restarts") == 1


def test_the_last_report_is_delivered_when_it_is_stopped(agents: Agents, bundle: Path, store_url: str) -> None:
    with start_collector(store_url) as collector:
        agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", 100, "--device", "pi-1",
            "--telemetry", collector.url, "--report-interval", 3600,
        )  # fmt: skip
        agent.wait_until_said("runs on")
        summary = agent.stop()
        reports = stored(collector, "pi-1")
    assert agent.process.returncode == 0
    assert summary["reports"]["made"] == len(reports) == 1
    check_complete(reports, summary) if summary["latency"] else None


def test_when_nothing_works_that_is_reported_before_it_fails(agents: Agents, bundle: Path, store_url: str) -> None:
    with start_collector(store_url) as collector:
        code, _, _ = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--device", "pi-1", "--telemetry", collector.url,
            "--delegate", external(build_delegate(), device="none"),
        )  # fmt: skip
        events = [event.kind for report in stored(collector, "pi-1") for event in report.events]
    assert code == 3
    assert "failed" in events


def test_a_collector_that_goes_and_comes_back_has_every_report_once(
    agents: Agents, bundle: Path, store_url: str
) -> None:
    port = free_port()
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", "--rate", 100, "--device", "pi-1",
        "--telemetry", f"http://127.0.0.1:{port}", "--report-interval", 0.1,
    )  # fmt: skip
    agent.wait_until_said("reports are kept")
    with start_collector(store_url, f"127.0.0.1:{port}"):
        agent.wait_until_said("the collector is back")
    agent.wait_until_said("reports are kept", times=2)
    os.kill(agent.worker_pid or 0, signal.SIGKILL)
    agent.wait_until_said("restart: ")
    with start_collector(store_url, f"127.0.0.1:{port}") as collector:
        summary = agent.stop()
        reports = stored(collector, "pi-1")
    assert summary["reports"]["waiting"] == 0
    assert sorted(r.seq for r in reports) == list(range(1, summary["reports"]["made"] + 1))
    assert total(reports, "frames") == summary["frames"]


@pytest.mark.slow
def test_what_could_not_be_delivered_is_delivered_by_the_next_run(
    agents: Agents, bundle: Path, store_url: str, tmp_path: Path
) -> None:
    port = free_port()
    arguments = ("--bundle", bundle, "--source", "synthetic:", "--count", 50, "--device", "pi-1",
                 "--telemetry", f"http://127.0.0.1:{port}", "--stop-timeout", 0.5)  # fmt: skip
    code, summary, _ = agents.run(*arguments)
    assert (code, summary["reports"]["waiting"]) == (0, 1)  # inference is what it is for: no telemetry is no failure
    spool = Spool(tmp_path / "state" / "spool.db")
    assert [decode_report(r.body).counters["frames"] for r in spool.pending(10)] == [50]
    spool.close()
    with start_collector(store_url, f"127.0.0.1:{port}") as collector:
        _, summary, _ = agents.run(*arguments)
        reports = stored(collector, "pi-1")
    assert summary["reports"]["delivered"] == 2
    assert len({r.boot for r in reports}) == 2
    assert total(reports, "frames") == 100


def test_a_collector_that_never_answers_does_not_keep_it_from_ending(agents: Agents, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--count", 50, "--stop-timeout", 0.5,
            "--telemetry", f"http://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
    assert code == 0, said
    assert summary["reports"]["waiting"] == summary["reports"]["made"] == 1


def test_who_asks_again_does_not_wait_for_the_collector(agents: Agents, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", 50, "--stop-timeout", 300,
            "--telemetry", f"http://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
        agent.wait_until_said("runs on")
        while agent.process.poll() is None:
            agent.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.process.wait(0.3)
    assert agent.process.returncode in (0, 130), agent.said  # 130: one came when it was printing its sums
    assert "Traceback" not in agent.said


def test_a_killed_agent_loses_no_report_it_had_made(
    agents: Agents, bundle: Path, store_url: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    agent = agents.start(
        "--bundle", bundle, "--source", "synthetic:", "--rate", 100, "--device", "pi-1",
        "--telemetry", url, "--report-interval", 0.1,
    )  # fmt: skip
    agent.wait_until_said("reports are kept")
    log = tmp_path / "state" / "spool.db-wal"
    size = log.stat().st_size
    agent.wait_until(lambda: log.stat().st_size > size + 60_000, "spooled several reports")
    agent.process.kill()
    agent.process.wait()
    with start_collector(store_url, f"127.0.0.1:{port}") as collector:
        agents.run("--bundle", bundle, "--source", "synthetic:", "--count", 5, "--device", "pi-1", "--telemetry", url)
        reports = stored(collector, "pi-1")
    boots = {r.boot: sorted(x.seq for x in reports if x.boot == r.boot) for r in reports}
    assert len(boots) == 2
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in boots.values())
    assert max(len(seqs) for seqs in boots.values()) > 3


def test_reports_travel_over_a_serial_line(agents: Agents, bundle: Path, store_url: str) -> None:
    near, far = os.openpty()
    tty.setraw(far)
    with start_collector(store_url, serial_ports=[near]) as collector:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--rate", 100, "--count", 60, "--device", "pi-1",
            "--telemetry", f"serial://{os.ttyname(far)}", "--report-interval", 0.2,
        )  # fmt: skip
        reports = stored(collector, "pi-1")
    os.close(far)
    assert code == 0, said
    check_complete(reports, summary)


def test_unsigned_is_said_in_every_report(agents: Agents, store_url: str, tmp_path: Path) -> None:
    unsigned = make_bundle(tmp_path / "u.bundle", signed=False)
    with start_collector(store_url) as collector:
        agents.run(
            "--bundle", unsigned, "--source", "synthetic:", "--count", 5, "--device", "pi-1",
            "--telemetry", collector.url, "--allow-unsigned",
        )  # fmt: skip
        assert [r.unsigned for r in stored(collector, "pi-1")] == [True]


@pytest.mark.parametrize("url", ["ftp://x", "http://", "serial://", "nonsense"])
def test_a_wrong_url_is_wrong_use(agents: Agents, bundle: Path, url: str) -> None:
    code, summary, said = agents.run("--bundle", bundle, "--source", "synthetic:", "--telemetry", url)
    assert code == 2
    assert summary["error"]["exit_code"] == 2
    assert "Traceback" not in said


def test_reports_that_no_disk_takes_are_said_to_be_lost(tmp_path: Path) -> None:
    said: list[str] = []
    publisher = Publisher(Spool(tmp_path / "spool.db", max_bytes=1), open_transport("http://127.0.0.1:9"), said.append)
    for seq in (1, 2, 3):
        publisher.submit(small_report(seq))
    assert publisher.totals()["waiting"] == 3
    publisher.close(0)
    assert (publisher.totals()["waiting"], publisher.totals()["lost"]) == (0, 3)
    assert "3 reports are lost" in said[-1]


def test_a_full_disk_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").symlink_to("/dev/full")
    with locked_state(tmp_path) as state:
        assert state == tmp_path
