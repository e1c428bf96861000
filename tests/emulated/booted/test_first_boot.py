"""A flashed card in a board that boots: Debian's own systemd, udev, sshd and sudo; nobody logs in before it reports."""

from __future__ import annotations

import re

import pytest
import tomllib

from support.booted_site import Site

pytestmark = [pytest.mark.emulated, pytest.mark.slow]


def test_the_first_report_comes_over_the_serial_line(site: Site) -> None:
    report = site.wait_for_report(version=1)
    assert (report.bundle, report.variant, report.delegate_ran) == ("digits", "int8", "xnnpack")
    assert report.delegated_ops >= report.total_ops - 1 and not report.unsigned
    assert re.fullmatch(r"raspberrypi-[0-9a-f]{8}", report.device)
    assert not [event for event in site.events() if event.kind in ("fallback", "restart", "rollback")]


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
