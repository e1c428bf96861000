"""An agent as root installs it and a service that starts it again, on this machine; packages of small agents."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.bundle import load_or_create_signing_key
from edgeloop.bundle.package import AGENT, CONFIG, Package, PackageManifest, entry_of, write_package
from edgeloop.deploy.agent_package import pack_tree
from edgeloop.errors import EdgeloopError
from edgeloop_agent.service.status import ask

PATIENCE_S = 120.0
_LAUNCHER = """#!/usr/bin/python3 -I
import os, sys
sys.path[:0] = {path!r}
import edgeloop.version
edgeloop.version.VERSION = {version!r}
{more}
from edgeloop_agent.cli import main
sys.exit(main())
"""
AT_RUN = "if sys.argv[1] == 'run' and '--launch' not in sys.argv: "
"""Before a statement: only where the agent is to run, not where it is asked or rehearsed."""


def agent_tree(folder: Path, version: str, more: str = "") -> Path:
    """An agent that is this checkout, and says that it is `version`."""
    launcher = folder / "bin/edgeloop-agent"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(_LAUNCHER.format(path=[p for p in sys.path if p], version=version, more=more))
    launcher.chmod(0o755)
    return folder


def agent_package(folder: Path, number: int, more: str = "", **changes: Any) -> Path:
    """Version `number` of an agent, which says that it is 9.NUMBER."""
    content, unpacked = pack_tree(agent_tree(folder / f"tree-{number}", f"9.{number}", more))
    made_for: dict[str, Any] = {"machine": platform.machine(), "python": tuple(sys.version_info[:2]), "glibc": (2, 17)}
    manifest = PackageManifest(
        AGENT, "edgeloop-agent", number, entry_of(content), **{**made_for, **changes}, agent=f"9.{number}",
        unpacked_bytes=unpacked,
    )  # fmt: skip
    return _written(folder / f"{number}.agent", manifest, content)


def config_package(folder: Path, number: int, text: str) -> Path:
    content = text.encode()
    return _written(folder / f"{number}.config", PackageManifest(CONFIG, "kitchen", number, entry_of(content)), content)


def _written(path: Path, manifest: PackageManifest, content: bytes) -> Path:
    write_package(path, manifest, content, load_or_create_signing_key())
    assert Package.open(path).manifest == manifest
    return path


@dataclass
class Service:
    """What systemd does with the unit: `run --config CONFIG --launch`, again after any failure."""

    folder: Path
    config: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = field(default=0)

    @property
    def launcher(self) -> Path:
        return self.folder / "0.1.0+base/bin/edgeloop-agent"

    @property
    def said(self) -> str:
        path = self.folder / "agent.err"
        return path.read_text() if path.exists() else ""

    def install(self) -> None:
        agent_tree(self.folder / "0.1.0+base", "0.1.0")

    def start(self) -> None:
        command = [sys.executable, "-I", str(self.launcher), "run", "--config", str(self.config), "--launch"]
        with (self.folder / "agent.err").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        self.starts += 1

    def tend(self) -> None:
        """Start it again where it failed."""
        assert self.process is not None
        if self.process.poll() not in (None, 0):
            self.start()

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            self.tend()
            if value := condition():
                return value
            time.sleep(0.05)
        code = None if self.process is None else self.process.poll()
        raise AssertionError(f"never {what}; exit code {code}; it said:\n{self.said}")

    def state(self, where: Path) -> dict[str, Any]:
        """What `status` has; {} while it starts or changes over."""
        try:
            return ask(where)
        except EdgeloopError:
            return {}

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
