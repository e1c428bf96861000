"""The agent under systemd: its unit as systemd itself judges it, and the notify protocol with a real agent."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.errors import UsageError
from edgeloop_agent.cli import main
from edgeloop_agent.service.sd_notify import Notifier
from edgeloop_agent.service.unit import GROUPS, UNIT_NAME, Service, install
from support.agents import Agents, make_bundle, run_cli

HIGHEST_EXPOSURE = 2.0  # of systemd-analyze security, 0 (safe) to 10


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


class Systemd:
    """The receiving end of the notify protocol."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.heard: list[str] = []

    def hears(self, wanted: str, times: int = 1, within_s: float = 30.0) -> str:
        """The last message that holds the text, once it came so often from now on."""
        until, last = time.monotonic() + within_s, ""
        while times:
            self.socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                last = self.socket.recv(4096).decode()
            except TimeoutError:
                raise AssertionError(f"never heard {wanted!r}, but {self.heard}") from None
            self.heard.append(last)
            times -= wanted in last
        return last


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(tmp_path)
    yield listening
    listening.socket.close()


def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    unit = tmp_path / UNIT_NAME
    unit.write_text(Service("/bin/true").unit())
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    judged = subprocess.run(security, capture_output=True, text=True)
    if "--offline" in judged.stderr:
        pytest.skip("this systemd-analyze judges running services only")
    found = re.search(r"Overall exposure level.*?: ([\d.]+)", judged.stdout)
    assert found is not None, judged.stdout + judged.stderr
    assert float(found[1]) <= HIGHEST_EXPOSURE


def test_the_unit_runs_the_agent_as_a_user_with_the_right_groups(tmp_path: Path) -> None:
    done = run_cli("service", "--install", "--root", tmp_path, "--memory-max", "300M", "--json")
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "etc/systemd/system" / UNIT_NAME).read_text()
    for line in ("Type=notify", "MemoryMax=300M", "User=edgeloop", "OOMPolicy=continue", "KillMode=mixed"):
        assert line in unit.splitlines()
    assert "WatchdogSec=" in unit
    assert " run --config /etc/edgeloop/agent.toml" in unit
    assert "@" not in unit.replace("@system-service", "").replace("@privileged", "").replace("@resources", "")
    users = (tmp_path / "etc/sysusers.d/edgeloop.conf").read_text()
    assert users.startswith("u edgeloop - ")
    assert all(f"m edgeloop {group}" in users for group in GROUPS)
    assert "1a6e" in (tmp_path / "etc/udev/rules.d/99-coral.rules").read_text()
    assert any("enable edgeloop-agent" in command for command in json.loads(done.stdout)["next"])


def test_a_config_that_is_there_stays(tmp_path: Path) -> None:
    config = tmp_path / "etc/edgeloop/agent.toml"
    config.parent.mkdir(parents=True)
    config.write_text("mine")
    assert install(Service("/bin/true"), tmp_path).kept == (str(config),)
    assert config.read_text() == "mine"


@pytest.mark.parametrize(
    "wrong", [{"user": "a b"}, {"user": "x\nExecStart=evil"}, {"memory_max": "much"}, {"config": "agent.toml"}]
)
def test_what_cannot_stand_in_a_unit_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Service("/bin/true", **wrong)


def test_nobody_is_notified_where_nobody_listens() -> None:
    notifier = Notifier({})
    assert not notifier.is_wanted
    notifier.ready()
    notifier.alive(1.0)
    gone = Notifier({"NOTIFY_SOCKET": "/nonexistent/notify"})
    gone.ready()


def test_the_watchdog_is_fed_four_times_per_timeout_by_whoever_it_is_for(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "4000000"}
    notifier = Notifier(environment)
    for now_s in (10.0, 10.5, 11.0, 11.5, 12.1):
        notifier.alive(now_s)
    Notifier({**environment, "WATCHDOG_PID": "1"}).alive(99.0)
    notifier.status("a\nb")
    notifier.status("a\nb")
    notifier.stopping()
    systemd.hears("STOPPING=1")
    assert systemd.heard == ["WATCHDOG=1"] * 3 + ["STATUS=a b", "STOPPING=1"]


def test_long_work_in_the_loop_has_the_watchdogs_patience(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "4000000"})
    with notifier.busy():
        pass
    with Notifier({"NOTIFY_SOCKET": str(systemd.path)}).busy():
        pass
    notifier.stopping()
    systemd.hears("STOPPING=1")
    assert systemd.heard == ["WATCHDOG_USEC=600000000", "WATCHDOG_USEC=4000000", "STOPPING=1"]


def test_an_agent_tells_systemd_how_it_is(agents: Agents, systemd: Systemd, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    config = tmp_path / "agent.toml"
    config.write_text(f'bundle = "{bundle}"\nsource = "synthetic:"\nrate = 50\n')
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "400000"}
    agent = agents.start("--config", config, env=environment)
    systemd.hears("READY=1")
    assert "digits 7 (int8)" in systemd.hears("STATUS=")
    systemd.hears("WATCHDOG=1", times=3)
    agent.process.send_signal(signal.SIGTERM)
    systemd.hears("STOPPING=1")
    assert agent.summary()["end"] == "stop"


def test_an_agent_whose_loop_stands_still_is_silent(agents: Agents, systemd: Systemd, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "400000"}
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "50", env=environment)
    agent.wait_until_said("runs on")
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    systemd.socket.setblocking(False)
    while True:
        try:
            systemd.socket.recv(4096)
        except BlockingIOError:
            break
    with pytest.raises(AssertionError, match="never heard"):
        systemd.hears("WATCHDOG=1", within_s=1.0)
    agent.process.send_signal(signal.SIGCONT)
    systemd.hears("WATCHDOG=1")


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    with pytest.raises(UsageError, match="there is no such folder") as caught:
        install(Service("/bin/true"), tmp_path / "imgae")
    assert caught.value.hint == f"did you mean {tmp_path / 'image'}?"
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_user_has_a_unit_of_their_own_without_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGELOOP_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    assert main(["service", "--user", "--install", "--command", "/home/me/edgeloop-agent", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    unit = (tmp_path / "conf/systemd/user/edgeloop-agent.service").read_text()
    config = tmp_path / "conf/edgeloop/agent.toml"
    assert f"ExecStart=/home/me/edgeloop-agent run --config {config} --launch" in unit and config.exists()
    assert "@" not in unit and "User=" not in unit and "WantedBy=default.target" in unit
    assert done["next"][1:3] == ["systemctl --user daemon-reload", "systemctl --user enable --now edgeloop-agent"]
    assert main(["service", "--user", "--root", str(tmp_path)]) == 2
    if shutil.which("systemd-analyze") is not None:
        words = ["systemd-analyze", "--user", "verify", str(tmp_path / UNIT_NAME)]
        (tmp_path / UNIT_NAME).write_text(unit.replace("/home/me/edgeloop-agent", "/bin/true"))
        verified = subprocess.run(
            words, capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")
