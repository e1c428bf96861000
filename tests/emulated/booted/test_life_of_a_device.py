"""One device's life, from a flashed card on: Debian's own systemd, udev, sshd and sudo, and nobody logs in before it
reports. Then good versions, bad ones, and each way back in its reports. In this order, on one board."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import tomllib

from edgeloop.bundle import Golden
from support.agents import LABELS, int8_of, residual_int8
from support.booted_site import Site, Workshop, golden, served, site_of
from support.delegate_lib import ADD, build_delegate, external
from support.tiny_models import TinyBuilder

pytestmark = [pytest.mark.emulated, pytest.mark.slow, pytest.mark.timeout(3600)]


CLOCK = os.environ.get("EDGELOOP_BOOTED_CLOCK", "utc")
"""1970-01-01T00:00:00: a board without a battery for its clock, which nobody sets."""


@pytest.fixture(scope="module")
def repository(shop: Workshop) -> Path:
    """Of releases; nothing is offered yet."""
    folder = shop.folder / "repository"
    shop.edgeloop("release", "init", folder)
    return folder


@pytest.fixture(scope="module")
def site(shop: Workshop, repository: Path) -> Iterator[Site]:
    with served(repository) as url:
        card = shop.card("--serial", "uart", "--release", url, "--release-root", repository)
        with site_of(shop, card, "a", clock=CLOCK) as found:
            yield found


def test_the_first_report_comes_over_the_serial_line(site: Site) -> None:
    report = site.wait_for_report(version=1)
    assert (report.bundle, report.variant, report.delegate_ran) == ("digits", "int8", "xnnpack")
    assert report.delegated_ops >= report.total_ops - 1 and not report.unsigned
    assert re.fullmatch(r"raspberrypi-[0-9a-f]{8}", report.device)
    assert not [event for event in site.events() if event.kind in ("fallback", "restart", "rollback")]


@pytest.mark.skipif(CLOCK == "utc", reason="EDGELOOP_BOOTED_CLOCK sets a wrong one")
def test_its_clock_is_behind(site: Site) -> None:
    """All that follows has to do with it: signed commands, expiring metadata of releases, trials."""
    site.wait_for_ssh()
    assert int(site.run("date +%s")) < time.time() - 86400


def test_the_service_runs_as_nobody_much(site: Site) -> None:
    site.wait_for_ssh()
    wanted = ("ActiveState", "SubState", "NRestarts", "User", "MainPID", "NeedDaemonReload")
    said = site.run(f"systemctl show edgeloop-agent -p {','.join(wanted)}; systemctl --failed --plain --no-legend")
    lines = said.split("\n")
    shown = dict(line.split("=", 1) for line in lines[: len(wanted)])
    assert (shown["ActiveState"], shown["SubState"], shown["User"]) == ("active", "running", "edgeloop"), said
    assert (shown["NRestarts"], shown["NeedDaemonReload"]) == ("0", "no"), said
    assert not "".join(lines[len(wanted) :]).strip(), said  # nothing failed at this boot
    status = site.run(f"cat /proc/{shown['MainPID']}/status")
    facts = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    assert "0" not in facts["Uid"].split()
    assert (facts["CapBnd"].strip("0"), facts["NoNewPrivs"], facts["Seccomp"]) == ("", "1", "2")


def test_the_sandbox_holds(site: Site) -> None:
    """What the unit forbids is tried from inside of it, with the worker's own eyes: its mounts and its devices."""
    pid = site.run("systemctl show edgeloop-agent -p MainPID --value").strip()
    inside = f"sudo nsenter -t {pid} -m --"
    assert "Read-only" in site.ssh(f"{inside} touch /usr/x /opt/x /etc/edgeloop/x").stderr
    assert site.run(f"{inside} ls /home").strip() == ""
    site.run(f"{inside} touch /var/lib/edgeloop/x && sudo rm /var/lib/edgeloop/x")
    mine = site.run("ls /tmp").split()
    assert site.run(f"{inside} ls /tmp").split() != mine or not mine


def test_the_line_is_free_of_consoles(site: Site) -> None:
    assert "ttyS0" not in site.run("cat /proc/cmdline")
    assert site.run("systemctl is-enabled serial-getty@ttyS0 || true").strip() == "masked"
    assert site.run("readlink /dev/serial0").strip() == "ttyS0"


def test_nothing_of_it_is_compiled_at_every_start(site: Site) -> None:
    code = site.run("find /opt/edgeloop/agent/current/site -name '*.pyc' | head -3")
    assert code.count(".cpython-311.pyc") == 3
    assert tomllib.loads(site.run("cat /etc/edgeloop/agent.toml"))["device"] == "{hostname}-{machine}"


def test_a_second_version_is_deployed_and_committed(site: Site, shop: Workshop) -> None:
    site.wait_for_report(version=1)
    site.wait_for_ssh()
    before = site.run("systemctl show edgeloop-agent -p MainPID --value")
    (host,) = site.deploy(shop.bundle(2, golden=golden()), "--slim", "--wait", "1800")["hosts"]
    assert host["state"] == "committed", host
    site.wait_for_event("committed", "version 2: well for")
    report = site.wait_for_report(version=2)
    assert report.delegate_ran == "xnnpack"
    if host["steps"] == []:  # the agent on the card is this one
        assert site.run("systemctl show edgeloop-agent -p MainPID --value") == before, "taken without a restart"


def test_a_third_version_comes_over_the_serial_line_while_reports_go_on(site: Site, shop: Workshop) -> None:
    device = site.reports()[-1].device
    bundle = shop.bundle(3, golden=golden())
    (host,) = shop.edgeloop("deploy", device, bundle, "--collector", site.collector, "--wait", "1800")["hosts"]
    assert host["state"] == "committed", host
    site.wait_for_event("committed", "version 3: well for")
    seqs = [report.seq for report in site.reports() if report.boot == site.reports()[-1].boot]
    assert seqs == list(range(1, len(seqs) + 1)), "no report is missing"


def test_a_fourth_version_is_pulled_from_the_host(site: Site, shop: Workshop, repository: Path) -> None:
    shop.edgeloop("release", "publish", repository, shop.bundle(4, golden=golden()))
    site.wait_for_event("committed", "version 4: well for")
    assert site.standing() == (4, 4)


def test_wrong_golden_outputs_are_refused_by_the_device(site: Site, shop: Workshop) -> None:
    good = golden()
    turned = {family: [outputs[0][::-1].copy()] for family, outputs in good.outputs["int8"].items()}
    liar = shop.bundle(5, golden=Golden(good.inputs, {"int8": turned}, good.tolerance_steps))
    error = site.deploy(liar, "--slim", code=1)["error"]
    assert "golden self-test" in error["message"], error
    assert site.standing() == (4, 4)


def test_a_version_that_is_too_slow_there_is_rolled_back(site: Site, shop: Workshop) -> None:
    stood = site.standing()
    usual_ms = min(r.latency["invoke"].percentile(50) for r in site.reports() if "invoke" in r.latency)
    site.change_settings(f"latency_budget = {8 * usual_ms:.1f}")
    assert site.update(shop.bundle(6, model=_heavy_int8()))["state"] == "trial"
    event = site.wait_for_event("rollback", f"version 6 to version {stood[0]}")
    assert "too slow while it ran" in event.detail
    assert site.standing() == stood


def test_a_version_that_crashes_its_delegate_is_rolled_back(site: Site, shop: Workshop) -> None:
    stood = site.standing()
    site.put(build_delegate(machine="aarch64"), "/srv/libxdelegate.so")
    crashing = external(Path("/srv/libxdelegate.so"), claim_op=ADD, crash_invoke=1)
    site.change_settings(f'delegate = ["{crashing}", "xnnpack"]')
    # Rehearsed on another delegate than the one that crashes with it; what ran before has no ADD.
    crasher = shop.bundle(7, model=residual_int8())
    assert site.update(crasher, "--delegate", "xnnpack")["state"] == "trial"
    event = site.wait_for_event("rollback", f"version 7 to version {stood[0]}")
    assert "its worker failed" in event.detail
    assert site.standing() == stood
    last = site.reports()[-1].seq
    site.board.wait_until(lambda: _runs_again(site, last, stood[0]), "what ran before runs again")
    assert site.update(crasher)["reason"].startswith("version 7 failed here before")


def _runs_again(site: Site, after_seq: int, version: int) -> bool:
    report = site.reports()[-1]
    return report.seq > after_seq and report.version == version and report.counters.get("inferences", 0) > 0


@lru_cache(maxsize=1)
def _heavy_int8() -> bytes:
    """Some 60 million multiplications an inference, of the usual contract."""
    builder = TinyBuilder(0)
    x = builder.input("image", (1, 8, 8, 1))
    for _ in range(12):
        x = builder.conv(x, 96)
    return int8_of(builder.finish(builder.softmax(builder.dense(builder.mean(x), len(LABELS)))).write())
