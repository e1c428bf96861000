"""Releases for a fleet of two, on this machine: a repository, a collector, two agents; a good version step by step,
then a bad one that the first device rolls back, that is halted, and that the second device never gets.

    python samples/fleet_update/fleet.py -o build/fleet_update

Every step is a command that you can type; it is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from edgeloop.deploy.release.repository import Repository
from edgeloop.deploy.release.rollout import Progress, read_progress
from edgeloop.errors import DeviceError
from edgeloop.release.channel import HALTED
from edgeloop.telemetry.reading import open_reader

HERE = Path(__file__).resolve().parent
EDGELOOP = [sys.executable, "-m", "edgeloop.cli"]
AGENT = [sys.executable, "-m", "edgeloop_agent.cli"]
DEVICES = {"kitchen-1": ["canary"], "hall-1": []}
PATIENCE_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fleet_update"))
    folder: Path = parser.parse_args().output.absolute()
    for old in ("repo", "telemetry.db", *DEVICES):  # of the last time
        shutil.rmtree(folder / old, ignore_errors=True)
        (folder / old).unlink(missing_ok=True)
    began_s = time.monotonic()
    with ExitStack() as running:
        walk(folder, running)
    print(f"done in {time.monotonic() - began_s:.0f} s")


def walk(folder: Path, running: ExitStack) -> None:
    step("three versions, signed with your key")
    subprocess.run([sys.executable, str(HERE / "convert.py"), "-o", str(folder)], check=True, stderr=subprocess.DEVNULL)

    step("a repository: a folder of signed files, served by any web server")
    edgeloop(folder, "release", "publish", "repo", "fleet-1.bundle")
    releases = running.enter_context(served(folder / "repo"))

    step("a collector, two devices on version 1, and somebody who watches")
    reports = f"http://127.0.0.1:{free_port()}"
    store = "sqlite:///telemetry.db"
    start(running, folder, "collector", *EDGELOOP, "collect", "--listen", reports[7:], "--store", store)
    for device, tags in DEVICES.items():
        set_up(folder / device, tags, device=device, telemetry=reports, release=releases)
        start(running, folder / device, "agent", *AGENT, "run", "--config", "agent.toml")
    wait(folder, "both on version 1", lambda: states(folder, reports, 1) == dict.fromkeys(DEVICES, "committed"))
    watch = ("release", "watch", "repo", "--telemetry", reports, "--interval", "2")
    start(running, folder, "watch", *EDGELOOP, *watch)

    step("version 2, for the canary first")
    edgeloop(folder, "release", "publish", "repo", "fleet-2.bundle", "--tag", "canary")
    wait(folder, "committed on kitchen-1", lambda: states(folder, reports, 2) == {"kitchen-1": "committed"})
    edgeloop(folder, "release", "status", "repo", "--telemetry", reports)

    step("it is well: for everybody")
    edgeloop(folder, "release", "promote", "repo", "--no-tags")
    wait(folder, "committed on both", lambda: states(folder, reports, 2) == dict.fromkeys(DEVICES, "committed"))

    step("version 3 is no good: no picture fits it")
    edgeloop(folder, "release", "publish", "repo", "fleet-3.bundle", "--tag", "canary")
    wait(folder, "halted", lambda: is_halted(folder, 3))
    edgeloop(folder, "release", "promote", "repo", "--no-tags", may_fail=True)
    edgeloop(folder, "release", "status", "repo", "--telemetry", reports)
    for device in DEVICES:
        run(folder / device, *AGENT, "versions", "--config", "agent.toml")


# -- the commands


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def edgeloop(folder: Path, *words: str, may_fail: bool = False) -> None:
    run(folder, *EDGELOOP, *words, may_fail=may_fail)


def run(folder: Path, *command: str, may_fail: bool = False) -> None:
    """In a folder, shown as it would be typed."""
    print(f"$ {typed(command)}", flush=True)
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode and not may_fail:
        raise SystemExit(f"it failed: exit code {done.returncode}")


def start(running: ExitStack, folder: Path, name: str, *command: str) -> None:
    """In the background until the end; what it says goes to NAME.log."""
    print(f"$ {typed(command)} &", flush=True)
    log = running.enter_context((folder / f"{name}.log").open("w"))
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    running.callback(end, process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def typed(command: Sequence[str]) -> str:
    name = "edgeloop" if command[2] == "edgeloop.cli" else "edgeloop-agent"
    return shlex.join([name, *command[3:]])


# -- the devices


def set_up(folder: Path, tags: Sequence[str], **settings: str) -> None:
    """What `edgeloop deploy ssh://pi@pi4.local fleet-1.bundle --release URL --release-root repo` does on a real one."""
    folder.mkdir()
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**settings, "tags": list(tags)}.items()]
    (folder / "agent.toml").write_text((HERE / "device.toml").read_text() + "\n".join(lines) + "\n")
    (folder / "state" / "release").mkdir(parents=True)
    shutil.copyfile(folder.parent / "repo/metadata/1.root.json", folder / "state/release/root.json")
    run(folder, *AGENT, "update", "../fleet-1.bundle", "--config", "agent.toml")


def offer(folder: Path, reports: str, version: int) -> Progress | None:
    """What `release status` says about a version; None while it is not offered."""
    reader = open_reader(reports)
    try:
        every = read_progress(reader, Repository.load(folder / "repo").channels().values())
    except DeviceError:  # the collector is about to start
        every = []
    finally:
        reader.close()
    return next((progress for progress in every if progress.offer.version == version), None)


def states(folder: Path, reports: str, version: int) -> dict[str, str]:
    """By device, of those that have said something about the version."""
    progress = offer(folder, reports, version)
    return {} if progress is None else {device.device: device.state for device in progress.devices}


def is_halted(folder: Path, version: int) -> bool:
    offers = Repository.load(folder / "repo").channel("stable").offers
    return any(offer.version == version and offer.state == HALTED for offer in offers)


def wait(folder: Path, what: str, is_so: Callable[[], bool]) -> None:
    print(f"   waiting: {what} ...", end=" ", flush=True)
    began_s = time.monotonic()
    while not is_so():
        if time.monotonic() - began_s > PATIENCE_S:
            logs = "\n".join(f"{log}:\n{log.read_text()[-1500:]}" for log in folder.rglob("*.log"))
            raise SystemExit(f"not after {PATIENCE_S:.0f} s\n{logs}")
        time.sleep(0.5)
    print(f"after {time.monotonic() - began_s:.0f} s", flush=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`python -m http.server`, quietly: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
