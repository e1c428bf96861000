"""Where boards are: `edgeloop` with a home of its own, a card that it flashed, a collector at the serial line of the
board that runs it, and SSH to it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.affine import dequantize
from edgeloop.bundle import Golden
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.deploy.image.files import FileEntry
from edgeloop.deploy.image.os_image import open_image
from edgeloop.preprocess import compile_input
from edgeloop.runtime import open_session, runtime_info
from edgeloop.telemetry.reading import Question, open_reader
from edgeloop.telemetry.report import Event, Report
from support.agents import LABELS, digits_int8, frames, make_bundle
from support.board_image import board_image
from support.collecting import collector_process
from support.debian_packages import cache_folder
from support.emulated_board import EmulatedBoard, booted, clone

CONTRACT = Contract((InputSpec(kind="tensor", shape=(8, 8, 1), std=(255.0,)),), OutputSpec("classification", LABELS))
_PATIENT = "/etc/systemd/system/edgeloop-agent.service.d/patient.conf"
MODEL, USER, FRAMES = "digits", "maker", "/srv/frames.npz"
SETTINGS = f"""source = "npz:{FRAMES}"
loop = true
rate = 1.0
report_interval = 5.0
trial = 4.0
release_interval = 60.0
# A board that a busy host emulates stands still for seconds, and all it does takes ten times as long.
load_timeout = 600.0
heartbeat_timeout = 120.0
frame_timeout = 120.0
invoke_timeout = 120.0
"""
_PATIENT_UNIT = b"[Service]\nTimeoutStartSec=1800\nWatchdogSec=600\n"
_COMMAND_TIMEOUT_S = 1800.0
_AGENT = "/usr/bin/python3 -I /opt/edgeloop/agent/current/bin/edgeloop-agent"
_AS_SERVICE = "env XDG_CONFIG_HOME=/etc XDG_STATE_HOME=/var/lib XDG_CACHE_HOME=/var/cache"


def golden() -> Golden:
    """What the usual model answers here; aarch64 has to agree."""
    with open_session(digits_int8()) as session:
        prepare = compile_input(CONTRACT.inputs[0], session.inputs[0])
        answers = [dequantize(session.run(prepare(x))[0], session.outputs[0].affine) for x in _samples()]
    family = runtime_info().family
    return Golden({"input": _samples()}, {"int8": {family: [np.concatenate(answers)]}}, {family: 2.0})


def _samples() -> np.ndarray:
    """float32 [20, 8, 8, 1]."""
    return frames(20)[..., None].astype(np.float32)


@dataclass(frozen=True)
class Workshop:
    """Where cards are made. home: EDGELOOP_HOME, with the key that signs."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def identity(self) -> Path:
        return self.folder / "ssh_key"

    @classmethod
    def open(cls, folder: Path) -> Workshop:
        shop = cls(folder)
        wheels = cache_folder() / "board-wheels"
        wheels.mkdir(exist_ok=True)
        (shop.home / "cache").mkdir(parents=True)
        (shop.home / "cache/wheels").symlink_to(wheels)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(shop.identity)], check=True)
        return shop

    def edgeloop(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        """The command's `--json` object; it has to end with that exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "edgeloop.cli", *map(str, words), "--json"],
            capture_output=True, text=True,
            env={**os.environ, "EDGELOOP_HOME": str(self.home), "EDGELOOP_PATIENCE": "40"},
            timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def bundle(self, version: int, **options: Any) -> Path:
        """Signed with the workshop's key."""
        path = self.folder / f"{MODEL}-{version}.bundle"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGELOOP_HOME", str(self.home))
            return make_bundle(
                path, **{"contract": CONTRACT, "target": "generic-arm64", "name": MODEL, "version": version, **options}
            )

    def card(self, *words: str | Path) -> Path:
        """A flashed card; words: of `flash`. The system on it has booted before, and has the frames that the model will
        see."""
        system, card = clone(board_image(), self.folder / "system.img"), self.folder / "card.img"
        samples, config = self.folder / "frames.npz", self.folder / "agent.toml"
        np.savez(samples, x=_samples())
        config.write_text(SETTINGS)
        files = {FRAMES: samples, "/etc/.updated": b"", _PATIENT: _PATIENT_UNIT}
        open_image(system).root.put({path: FileEntry(content) for path, content in files.items()})
        self.edgeloop(
            "flash", system, "-o", card, "--slim", "--bundle", self.bundle(1), "--config", config,
            "--user", USER, "--ssh-key", self.identity.with_suffix(".pub"), *words,
        )  # fmt: skip
        system.unlink()
        return card


@dataclass(frozen=True)
class Site:
    """A board that runs a card, and a collector that hears of it. device: by which name; "" where it is the only
    one."""

    shop: Workshop
    board: EmulatedBoard
    store: str
    collector: str
    device: str = ""

    def reports(self) -> list[Report]:
        """All that came in from it, in the order of arrival."""
        with contextlib.closing(open_reader(self.store)) as reader:
            reports = [stored.report for stored in reader.reports(Question())]
        return [report for report in reports if self.device in ("", report.device)]

    def events(self, *kinds: str) -> list[Event]:
        return [event for report in self.reports() for event in report.events if not kinds or event.kind in kinds]

    def wait_for_report(self, **wanted: Any) -> Report:
        """The first one with these fields that has inferences."""

        def found() -> Report | None:
            fitting = (r for r in self.reports() if all(getattr(r, name) == value for name, value in wanted.items()))
            return next((report for report in fitting if report.counters.get("inferences", 0) > 0), None)

        report = self.board.wait_until(found, f"a report with {wanted}; events: {self.events()}")
        assert isinstance(report, Report)
        return report

    def wait_for_event(self, kind: str, text: str) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events(kind) if text in event.detail), None)

        event = self.board.wait_until(found, f"an event {kind} {text!r}; events: {self.events()}")
        assert isinstance(event, Event)
        return event

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._ssh(command), capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )

    def _ssh(self, command: str) -> list[str]:
        """One connection for all commands."""
        shared = ("ControlMaster=auto", f"ControlPath={self.board.folder / 'ssh'}", "ControlPersist=600")
        told = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", *shared)
        options = [word for option in told for word in ("-o", option)]
        where = ["-p", str(self.board.ssh_port), f"{USER}@127.0.0.1"]
        return ["ssh", "-i", str(self.shop.identity), *options, *where, command]

    def wait_for_ssh(self) -> None:
        self.board.wait_until(lambda: self.ssh("true").returncode == 0, "an answer of sshd")

    def run(self, command: str) -> str:
        """Its output; it has to work."""
        done = self.ssh(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def agent_command(self, *words: str) -> str:
        return f"{_AS_SERVICE} {_AGENT} {' '.join(words)}"

    def agent(self, *words: str) -> dict[str, Any]:
        """The `--json` answer of a verb of the board's agent, with the rights of the service."""
        done = self.ssh(f"sudo runuser -u edgeloop -- {self.agent_command(*words)} --json")
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def standing(self) -> tuple[int, int]:
        """(version that runs, version that is committed)."""
        (model,) = self.agent("versions")["models"]
        return model["running"]["number"], model["committed"]["number"]

    def put(self, file: Path, place: str) -> None:
        """Root's, for everybody to read."""
        with file.open("rb") as content:
            done = subprocess.run(self._ssh(f"sudo tee {place} >/dev/null"), stdin=content, check=False)
        assert done.returncode == 0, place

    def update(self, bundle: Path, *words: str) -> dict[str, Any]:
        """What the board's door says."""
        self.put(bundle, f"/srv/{bundle.name}")
        return self.agent(*update_words(bundle), *words)

    def change_settings(self, line: str) -> None:
        """A line more in the agent's config, which is read again."""
        self.run(f"echo '{line}' | sudo tee -a /etc/edgeloop/agent.toml && sudo systemctl reload edgeloop-agent")

    @property
    def url(self) -> str:
        return f"ssh://{USER}@127.0.0.1:{self.board.ssh_port}"

    def deploy(self, bundle: Path, *words: str, code: int = 0) -> dict[str, Any]:
        return self.shop.edgeloop("deploy", self.url, bundle, "--identity", self.shop.identity, *words, code=code)


def update_words(bundle: Path) -> tuple[str, ...]:
    """For the board's agent, of a bundle that was put there."""
    return "update", f"/srv/{bundle.name}", "--config", "/etc/edgeloop/agent.toml"


@contextlib.contextmanager
def site_of(shop: Workshop, card: Path, name: str, clock: str) -> Iterator[Site]:
    """Powered on, with a collector at its serial line; neither is waited for. clock: see EmulatedBoard."""
    folder = shop.folder / name
    store = folder / "store.db"
    with booted(card, folder, clock) as board, collector_process(store, "--serial", str(board.line)) as collector:
        yield Site(shop, board, f"sqlite:///{store}", collector.url)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP on loopback; the URL by which an emulated board reaches it."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://10.0.2.2:{server.server_port}"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""
