"""`edgeloop deploy` over a real sshd into a folder that stands for a device's root, with the agent really installed
there and really started; only systemd is a script."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from edgeloop import paths
from edgeloop.bundle import Bundle, Golden, load_or_create_signing_key
from edgeloop.cli.main import main
from edgeloop.deploy.card import digest_of
from edgeloop.deploy.host import Host, Places, as_root
from edgeloop.devices import agent_site
from edgeloop.devices.agent_site import pack_own_code
from edgeloop.devices.connection import Completed, DevicePlatform, connect
from edgeloop.errors import DeviceError
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.update import Version
from edgeloop_agent.delivery.versions import VersionFolder
from support import systemctl
from support.agents import frames, golden_of, make_bundle, slow_int8
from support.collecting import wait_until
from support.installed_agent import config_package
from support.sshd import SshServer, ssh_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Board:
    """A device: an sshd, a folder instead of "/", a systemctl."""

    def __init__(self, server: SshServer, root: Path, systemd: Path) -> None:
        self.server, self.root, self.systemd = server, root, systemd

    def deploy(self, *words: str | Path, prefix: Path | None = None) -> int:
        where = ["--identity", str(self.server.identity), "--prefix", str(prefix or self.root), "--json"]
        return main(["deploy", self.server.url, *map(str, words), *where])

    def agent(self, *words: str) -> dict[str, Any]:
        launcher = self.root / "opt/edgeloop/agent/current/bin/edgeloop-agent"
        command = ["/usr/bin/python3", "-I", launcher, *words, "--config", self.config, "--json"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def runs(self) -> tuple[int, int]:
        """(version that runs, version that is committed)."""
        (model,) = self.agent("versions")["models"]
        return model["running"]["number"], model["committed"]["number"]

    def told(self) -> str:
        """What explains a failed test."""
        record = next(self.root.rglob("record.json")).read_text()
        return "\n".join([record, (self.systemd / "agent.err").read_text(), *systemctl.calls(self.systemd)])

    def tree(self) -> list[str]:
        """Everything but what is unpacked."""
        found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink())
        aside = ("/site/", "/bin/", "/bundles/", ".lock", ".sock", "/spool")
        return sorted(p for p in found if not any(word in p for word in aside))

    @property
    def config(self) -> Path:
        return self.root / "etc/edgeloop/agent.toml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshServer, Path, Path]]:
    folder, own = tmp_path_factory.mktemp("deploy"), pack_own_code()
    # One version throughout, though somebody may be at work on the sources meanwhile.
    with (
        pytest.MonkeyPatch.context() as patch,
        ssh_server(folder / "sshd", more=systemctl.install(folder / "systemd")) as server,
    ):
        patch.setattr(agent_site, "pack_own_code", lambda: own)
        yield server, folder, folder / "systemd"


@pytest.fixture
def board(place: tuple[SshServer, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """Fresh; the agent's files of an earlier test are there but not in use, so that they are not unpacked each time."""
    server, folder, systemd = place
    monkeypatch.setenv("EDGELOOP_HOME", str(folder / "home"))
    root, unpacked = tmp_path / "root", folder / "agents"
    if unpacked.exists():
        shutil.copytree(unpacked, root / "opt/edgeloop/agent", copy_function=_hard_link)
    yield Board(server, root, systemd)
    systemctl.forget(systemd)
    if not unpacked.exists() and (root / "opt/edgeloop/agent").exists():
        (root / "opt/edgeloop/agent/current").unlink(missing_ok=True)
        shutil.copytree(root / "opt/edgeloop/agent", unpacked, copy_function=_hard_link)


def _hard_link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


SOURCE = ("--source", "synthetic:", "--trial", "1")
TOO_SLOW = "latency_budget = 0.01\n"  # ms


def test_without_the_service_it_installs_and_says_what_to_type(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "7.bundle")
    assert board.deploy(bundle, *SOURCE, "--no-service", "--dry-run") == 0
    assert answer(capsys)["hosts"][0]["state"] == "would be installed"
    assert board.tree() == []
    assert board.deploy(bundle, *SOURCE, "--no-service") == 0
    (host,) = answer(capsys)["hosts"]
    assert host["state"] == "installed" and "run --config" in host["next"][0]
    assert systemctl.calls(board.systemd) == []
    assert any(str(Bundle.open(bundle).signed_by) in step for step in host["steps"])
    done = subprocess.run([*host["next"][0].split(), "--count", "20", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["inferences"] == 20, done.stderr


def test_a_device_gets_well_stays_well_and_goes_back(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One device's life: first deploy, a second version, a bad one, refused ones, back by hand."""
    assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE, "--wait", "300") == 0
    assert answer(capsys)["hosts"][0]["state"] == "committed"
    assert board.runs() == (7, 7)
    assert "daemon-reload" in systemctl.calls(board.systemd)
    config = board.config.read_text()
    assert len(list((board.root / "etc/edgeloop/trusted").glob("*.pub"))) == 1

    board.config.write_text("# mine\n" + config)
    pid = board.agent("status")["pid"]
    assert board.deploy(make_bundle(tmp_path / "8.bundle", version=8)) == 0
    assert answer(capsys)["hosts"][0]["steps"] == []
    assert board.runs() == (8, 8)
    assert board.agent("status")["pid"] == pid, "a running agent takes it without a restart"
    assert board.config.read_text() == "# mine\n" + config

    # A rehearsal holds no version to the budget of the config, the running agent does.
    board.config.write_text(TOO_SLOW + config)
    bad = make_bundle(tmp_path / "9.bundle", version=9, model=slow_int8())
    assert board.deploy(bad, "--telemetry", "http://127.0.0.1:1") == 1
    assert "rolled back version 9: too slow while it ran" in answer(capsys)["error"]["message"]
    assert board.runs() == (8, 8)
    assert board.config.read_text() == TOO_SLOW + config
    board.config.write_text(config)

    before = board.tree()
    golden = golden_of(frames(16))
    turned = {family: [outputs[0][::-1].copy()] for family, outputs in golden.outputs["int8"].items()}
    liar = Golden(golden.inputs, {"int8": turned}, golden.tolerance_steps)
    for words, said in (
        ((bad,), "failed here before"),
        ((make_bundle(tmp_path / "g.bundle", version=10, golden=liar),), "golden self-test"),
        ((tmp_path / "7.bundle",), "older than 8"),
        ((make_bundle(tmp_path / "s.bundle", version=11), "--max-p95", "0.0001"), "too slow here"),
    ):
        assert board.deploy(*words) == 1
        assert said in answer(capsys)["error"]["message"], board.told()
    assert board.deploy(make_bundle(tmp_path / "u.bundle", version=12, signed=False)) == 4
    assert board.deploy(make_bundle(tmp_path / "n.bundle", version=1, name="other")) == 2
    assert "lets another bundle run" in capsys.readouterr().err
    assert (board.runs(), board.tree()) == ((8, 8), before)

    url, key = board.server.url, ["--identity", str(board.server.identity)]
    assert main(["rollback", url, *key, "--prefix", str(board.root), "--wait", "300", "--json"]) == 0
    assert answer(capsys)["version"] == 7
    assert (board.runs()[0], board.agent("status")["models"][0]["version"]) == (7, 7)


def test_a_config_goes_through_the_door_of_a_device_that_has_an_agent(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = config_package(tmp_path, 1, "")
    assert board.deploy(first) == 2
    assert "has no agent that could take the config" in answer(capsys)["error"]["message"]
    assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE, "--wait", "300") == 0
    text = board.config.read_text()
    capsys.readouterr()
    for number, more, code, said in ((2, "threads = 1\n", 0, "committed"), (3, "threads = 'x'\n", 1, "threads")):
        assert board.deploy(config_package(tmp_path, number, text + more)) == code, board.told()
        assert said in capsys.readouterr().out
        assert board.agent("versions")["config"]["running"]["number"] == 2
    assert board.config.read_text() == text, "what root installed stays"
    assert board.deploy(first, "--source", "camera:0") == 2
    capsys.readouterr()

    there = [board.server.url, "--identity", str(board.server.identity), "--prefix", str(board.root), "--json"]
    assert main(["rollback", *there, "--package", "config"]) == 0
    assert answer(capsys)["version"] is None, "what root installed"
    wait_until(lambda: board.told().count("its config takes over") == 2, "took the config that was there before")
    assert board.agent("versions")["config"]["running"] is None
    assert main(["rollback", *there, "digits", "--package", "config"]) == 2


def test_a_first_version_that_is_no_good_leaves_the_device_as_it_was(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board.config.parent.mkdir(parents=True, exist_ok=True)
    board.config.write_text(TOO_SLOW)
    assert board.deploy(make_bundle(tmp_path / "7.bundle", model=slow_int8()), *SOURCE, "--wait", "300") == 1
    assert "rolled back version 7" in answer(capsys)["error"]["message"]
    assert board.config.read_text() == TOO_SLOW and not list((board.root / "etc/edgeloop/trusted").iterdir())
    assert systemctl.calls(board.systemd)[-1].startswith("disable --now")
    board.config.unlink()
    (board.systemd / "broken").touch()
    assert board.deploy(make_bundle(tmp_path / "8.bundle", version=8), *SOURCE) == 3
    assert "Job for edgeloop-agent.service failed" in answer(capsys)["error"]["message"]
    assert not board.config.exists()
    standing = VersionFolder(next(board.root.rglob("record.json")).parent).standing()
    assert (standing.running, standing.trial) == (None, None), "nothing is left on trial"
    (board.systemd / "broken").unlink()
    assert board.deploy(tmp_path / "8.bundle", *SOURCE, "--wait", "300") == 0, "the next one goes through"
    assert board.runs() == (8, 8)


def test_a_device_of_somebody_else_is_left_alone(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "7.bundle")
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "theirs"))
    trusted = board.root / "etc/edgeloop/trusted"
    trusted.mkdir(parents=True)
    (trusted / "theirs.pub").write_bytes(load_or_create_signing_key().public_path.read_bytes())
    monkeypatch.setenv("EDGELOOP_HOME", str(board.server.identity.parent.parent / "home"))
    before = board.tree()
    assert board.deploy(bundle, *SOURCE) == 4
    error = answer(capsys)["error"]
    assert "trusts other keys" in error["message"] and ".pub" in error["hint"]
    assert board.deploy(bundle, "--dry-run") == 4
    assert board.tree() == before


def test_a_user_without_root_has_a_service_of_their_own(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE, "--wait", "300", "--user-service") == 0
    host = answer(capsys)["hosts"][0]
    assert host["state"] == "committed" and all("enable-linger" in line for line in host["next"])
    calls = systemctl.calls(board.systemd)
    unit = board.root / "etc/systemd/user/edgeloop-agent.service"
    assert calls[0] == "--user daemon-reload" and f"--user enable {unit}" in calls
    text = unit.read_text()
    assert "WantedBy=default.target" in text and "\nUser=" not in text and "DevicePolicy" not in text
    assert board.runs() == (7, 7)


def test_a_second_deploy_at_once_is_refused(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = connect(board.server.url, identity=board.server.identity)
    with Host(device, Places(PurePosixPath(board.root))).locked():
        assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE, "--no-service") == 3
        assert "another deploy to it is going on" in answer(capsys)["error"]["message"]
        assert board.tree() == []
    device.close()
    assert board.deploy(tmp_path / "7.bundle", *SOURCE, "--no-service") == 0


def test_a_host_whose_key_changed_is_refused(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = Path(f"{board.server.identity}.pub").read_text().split()
    own = paths.config_dir() / "known_hosts"
    own.write_text(f"[127.0.0.1]:{board.server.port} {key[0]} {key[1]}\n")
    assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE) == 4
    assert "host key" in answer(capsys)["error"]["message"]
    assert board.tree() == []
    own.unlink()


def test_without_sudo_nothing_is_changed(board: Board) -> None:
    class User:
        """Somebody who may log in and nothing else."""

        url, is_local, ran = "ssh://pi@board", False, list[list[str]]()

        def run(self, argv: Sequence[str], **_more: Any) -> Completed:
            self.ran.append(list(argv))
            return Completed(1, b"", b"sudo: a password is required\n")

    user = User()
    platform = DevicePlatform("x86_64", (3, 11), (2, 36), "board", "pi", False, "/home/pi")
    with pytest.raises(DeviceError, match="sudo without a password; nothing was changed"):
        as_root(user, platform, None)  # type: ignore[arg-type]
    assert user.ran == [["sudo", "-n", "true"]]


def test_a_host_that_dies_meanwhile_leaves_a_device_that_runs_what_it_ran(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 of the deploying process at several moments; then a deploy goes through as if nothing had been."""
    assert board.deploy(make_bundle(tmp_path / "7.bundle"), *SOURCE, "--no-service") == 0
    folder = model_folder(board.root / "var/lib/edgeloop/agent", "digits")
    folder.commit()
    before, new = board.config.read_text(), make_bundle(tmp_path / "8.bundle", version=8)
    where = ["--identity", str(board.server.identity), "--prefix", str(board.root), "--no-service"]
    code = "import sys; from edgeloop.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for wait_s in (0.8, 1.6, 2.4, 3.2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "deploy", board.server.url, str(new), *where, "--telemetry", "http://c:1"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(wait_s)
        process.kill()
        process.wait()
        running = folder.standing().running
        assert running is not None and running.number in (7, 8)
        assert Bundle.open(folder.current).manifest.version == running.number
        assert board.config.read_text() == before or running.number == 8
    deadline = time.monotonic() + 120
    while board.deploy(new, "--no-service") == 3 and time.monotonic() < deadline:
        assert "another deploy" in capsys.readouterr().out, "of the one that was killed: for a moment"
    assert folder.standing().running == Version(8, digest_of(Bundle.open(new)))
    while list((board.root / "opt/edgeloop/deploys").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list((board.root / "opt/edgeloop/deploys").iterdir()) == []
