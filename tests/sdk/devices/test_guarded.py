"""What runs on a device, and its folder, go when the host goes: tried with a real sshd and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from edgeloop.devices import _guard, connect
from edgeloop.devices.guarded import GuardedFolder
from edgeloop.devices.install import UNPACK_SCRIPT, put_file
from edgeloop.errors import DeviceError
from support.sshd import ssh_server

_HOST = """
import sys, time
from pathlib import Path, PurePosixPath
from edgeloop.devices import connect
from edgeloop.devices.guarded import GuardedFolder
device = connect(sys.argv[1], identity=Path(sys.argv[2]))
folder = GuardedFolder(device, PurePosixPath(sys.argv[3]))
folder.start(["sh", "-c", "echo $$ > " + sys.argv[4] + "; while :; do sleep 0.1; done"], print)
time.sleep(300)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(params=["local:", "ssh"])
def device(request, server):
    opened = connect(server.url if request.param == "ssh" else "local:", identity=server.identity)
    yield opened
    opened.close()


def until(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def is_running(pid: int) -> bool:
    try:
        return b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("url", ["local:", "ssh"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_the_command_and_its_folder_end_with_the_host(server, tmp_path, url, number):
    folder, pid_file = tmp_path / "trials/a", tmp_path / "pid"
    arguments = [server.url if url == "ssh" else url, server.identity, folder, pid_file]
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST, *map(str, arguments)], env=os.environ | {"EDGELOOP_HOME": str(tmp_path)}
    )
    until(lambda: pid_file.exists() and pid_file.read_text().strip())
    assert folder.is_dir()
    host.send_signal(number)
    host.wait(60)
    until(lambda: not is_running(int(pid_file.read_text())) and not folder.exists())


def test_output_and_exit_code_come_back(device, tmp_path):
    out: list[str] = []
    said: list[str] = []
    with GuardedFolder(device, PurePosixPath(tmp_path / "trials/a")) as folder:
        assert folder.wait(0.01) is None
        folder.start(["sh", "-c", "echo out; echo said >&2; exit 7"], out.append, said.append)
        assert folder.wait(60) == 7
    assert (out, said) == (["out"], ["said"])
    assert list((tmp_path / "trials").iterdir()) == []


def test_a_crash_is_told_as_a_shell_tells_it(device, tmp_path):
    with GuardedFolder(device, PurePosixPath(tmp_path / "trials/a")) as folder:
        folder.start(["sh", "-c", "kill -SEGV $$"], print)
        assert folder.wait(60) == 128 + signal.SIGSEGV


def test_a_command_may_end_in_its_own_way_when_it_is_asked_to(device, tmp_path):
    lines: list[str] = []
    with GuardedFolder(device, PurePosixPath(tmp_path / "trials/a")) as folder:
        folder.start(["sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"], lines.append)
        until(lambda: lines)
        folder.terminate()
        assert folder.wait(60) == 5
    assert lines == ["up", "bye"]


def test_what_will_not_end_is_ended(device, tmp_path):
    lines: list[str] = []
    with GuardedFolder(device, PurePosixPath(tmp_path / "trials/a")) as folder:
        folder.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"], lines.append)
        until(lambda: lines)
        folder.terminate()
        folder.kill()
        assert folder.wait(60) == 128 + signal.SIGKILL


def test_folders_that_an_earlier_run_left_are_removed_and_those_in_use_are_not(device, tmp_path):
    trials = tmp_path / "trials"
    for name in ("left", "old", "fresh", "busy"):
        (trials / name).mkdir(parents=True)
    (trials / "left" / _guard.LOCK).touch()
    (trials / "busy" / _guard.LOCK).touch()
    os.utime(trials / "old", (1, 1))
    user = subprocess.Popen(["sh", "-c", "sleep 300 # $0", str(trials / "busy")])
    try:
        with (
            GuardedFolder(device, PurePosixPath(trials / "a")) as first,
            GuardedFolder(device, PurePosixPath(trials / "b")) as second,
        ):
            assert (first.removed, second.removed) == (("left", "old"), ())
            assert sorted(p.name for p in trials.iterdir()) == ["a", "b", "busy", "fresh"]
    finally:
        user.kill()
        user.wait()


def test_a_folder_that_cannot_be_made_is_said(device):
    with pytest.raises(DeviceError, match="/proc/nowhere"):
        GuardedFolder(device, PurePosixPath("/proc/nowhere/a"))


def test_a_copy_that_comes_after_the_end_makes_nothing(device, tmp_path):
    gone = PurePosixPath(tmp_path / "trials/a")
    with pytest.raises(DeviceError, match="is gone"):
        put_file(device, Path(__file__), gone / "source/x", within=gone)
    assert not (tmp_path / "trials").exists()


def test_an_install_that_breaks_off_leaves_nothing(tmp_path):
    target = tmp_path / "agent/1"
    done = subprocess.run([sys.executable, "-I", "-c", UNPACK_SCRIPT, str(target)], input=b"", capture_output=True)
    assert done.returncode != 0
    assert list((tmp_path / "agent").iterdir()) == []
