"""Real processes: the running agent polls by itself, and a poll that is killed goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Golden, load_or_create_signing_key
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.release.polling import Polls, details
from edgeloop_agent.release.pull import FOLDER
from edgeloop_agent.release.resuming import CHUNK_BYTES
from support.agents import Agents, frames, golden_of, make_bundle, run_cli
from support.pulling import Fleet
from support.release_server import ReleaseServer, serving
from support.releasing import new_repository, take_in
from support.retrained import model_bytes


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReleaseServer]:
    """Of a repository that the device trusts, by the key that signs its bundles."""
    repo = new_repository(tmp_path / "repo", load_or_create_signing_key())
    root = tmp_path / "state" / FOLDER / "root.json"
    root.parent.mkdir(parents=True)
    root.write_bytes((repo / "metadata/1.root.json").read_bytes())
    with serving(repo) as found:
        yield found


def config(tmp_path: Path, server: ReleaseServer, link: Path) -> Path:
    np.savez(tmp_path / "x.npz", x=frames(20))
    lines = [
        f'bundle = "{link}"', f'source = "npz:{tmp_path / "x.npz"}"', "loop = true", "rate = 50", "trial = 1",
        f'state = "{tmp_path / "state"}"', f'release = "{server.url}"', "release_interval = 1",
    ]  # fmt: skip
    (tmp_path / "agent.toml").write_text("\n".join(lines))
    return tmp_path / "agent.toml"


@pytest.mark.slow
def test_a_running_agent_takes_a_release_and_tells_once_of_a_bad_one(
    tmp_path: Path, server: ReleaseServer, agents: Agents
) -> None:
    key = load_or_create_signing_key()
    done = run_cli(
        "update", make_bundle(tmp_path / "7.bundle"), "--state", tmp_path / "state", "--rehearsal", "0.1", "--json"
    )
    folder = model_folder(tmp_path / "state", "digits")
    folder.commit()
    agent = agents.start("--config", config(tmp_path, server, Path(json.loads(done.stdout)["link"])))
    take_in(server.folder, key, make_bundle(tmp_path / "8.bundle", version=8))
    agent.wait_until(lambda: server.targets_asked, "fetched")
    agent.wait_until_said("update: version 8 is on trial")
    agent.wait_until_said("committed: version 8: well for")
    golden = golden_of(frames(16))
    turned = {family: [outputs[0][::-1].copy()] for family, outputs in golden.outputs["int8"].items()}
    bad = Golden(golden.inputs, {"int8": turned}, golden.tolerance_steps)
    take_in(server.folder, key, make_bundle(tmp_path / "9.bundle", version=9, golden=bad))
    agent.wait_until(lambda: any(name.startswith("digits-9.") for name in server.targets_asked), "fetched 9")
    agent.wait_until_said("release: digits 9 refused: ")
    polls = len(server.asked)
    agent.wait_until(lambda: len(server.asked) >= polls + 6, "polled again")
    assert agent.said.count("release: ") == 1 and "golden" in agent.said
    assert len([name for name in server.targets_asked if name.startswith("digits-9.")]) == 1
    standing = folder.standing()
    assert standing.running is not None and standing.running.number == 8
    assert agent.stop()["inferences"] > 0


def test_a_poll_that_is_killed_loses_less_than_a_chunk(fleet: Fleet) -> None:
    content = fleet.publish(8, model_bytes(CHUNK_BYTES + 200_000)).read_bytes()
    partial = fleet.state / FOLDER / "partial" / "ic"
    asked = [sys.executable, "-m", "edgeloop_agent.cli", "pull", "--state", str(fleet.state)]
    poll = subprocess.Popen([*asked, "--release", fleet.server.url, "--rate", "200000"], stderr=subprocess.DEVNULL)
    had = 0
    for _ in range(3000):
        had = sum(path.stat().st_size for path in partial.iterdir()) if partial.is_dir() else 0
        if had > CHUNK_BYTES or poll.poll() is not None:
            break
        time.sleep(0.01)
    os.kill(poll.pid, signal.SIGKILL)
    poll.wait()
    assert had > CHUNK_BYTES
    assert fleet.pull().models[0].state == "trial" and fleet.offered == [content]
    (start,) = [start for path, start in fleet.server.asked if "ic-8" in path and start]
    assert had <= start < len(content)


def test_the_same_trouble_is_told_once_until_something_else_happens() -> None:
    told: list[tuple[str, str]] = []
    polls = Polls(None)
    polls._say = lambda kind, detail: told.append((kind, detail))
    for met in ({"failed: no network"}, {"failed: no network"}, set(), {"failed: no network"}):
        polls._news(met)
    assert told == [("release", "failed: no network")] * 2


def test_what_a_poll_said_becomes_details() -> None:
    assert details({"error": {"message": "out of date", "exit_code": 4}}, 4) == ["refused: out of date"]
    assert details({"error": {"message": "no network", "exit_code": 3}}, 3) == ["failed: no network"]
    assert details({}, -9) == ["failed: pull ended with exit code -9 and said nothing"]
    models = [
        {"name": "ic", "version": 8, "state": "refused", "reason": "too slow"},
        {"name": "kws", "version": 3, "state": "current", "reason": ""},
    ]
    assert details({"models": models}, 1) == ["ic 8 refused: too slow"]


def test_the_verb_names_what_is_missing(tmp_path: Path) -> None:
    done = run_cli("pull", "--state", tmp_path, "--json")
    assert done.returncode == 2 and "no repository is named" in done.stderr
    done = run_cli("pull", "--state", tmp_path, "--release", "ftp://x", "--json")
    assert done.returncode == 2 and "https://HOST/PATH" in json.loads(done.stdout)["error"]["message"]
    done = run_cli("pull", "--state", tmp_path, "--release", "http://127.0.0.1:9", "--json")
    assert done.returncode == 2 and "no trusted root" in done.stderr
