"""`edgeloop deploy` over a real sshd into a folder that stands for a device's root, with the agent really installed
there and really started; only systemd is a script."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeloop.bundle import Bundle
from edgeloop.cli.main import main
from support import systemctl
from support.agents import make_bundle
from support.sshd import SshServer, ssh_server

pytestmark = pytest.mark.slow


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

    def tree(self) -> list[str]:
        """Everything but the unpacked agents."""
        found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink())
        return sorted(p for p in found if "/site/" not in p and "/bin/" not in p and ".lock" not in p)

    @property
    def config(self) -> Path:
        return self.root / "etc/edgeloop/agent.toml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshServer, Path, Path]]:
    folder = tmp_path_factory.mktemp("deploy")
    with ssh_server(folder / "sshd", more=systemctl.install(folder / "systemd")) as server:
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
