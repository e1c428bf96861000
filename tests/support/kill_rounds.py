"""Updates against a running agent, with kill -9 at random moments, while a reader reads what is to run."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeloop.bundle import Bundle
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.versions import VersionFolder
from support.agents import Agent, Agents, frames, make_bundle, run_cli

FIRST = 1
_READER = """
import hashlib, json, signal, sys
link, known = sys.argv[1], set(sys.argv[2:])
reads = torn = 0
is_over = []
signal.signal(signal.SIGTERM, lambda *_: is_over.append(1))
print("reads", flush=True)
while not is_over:
    with open(link, "rb") as file:
        content = file.read()
    reads += 1
    torn += hashlib.sha256(content).hexdigest() not in known
print(json.dumps([reads, torn]), flush=True)
"""


@dataclass
class Tally:
    """killed_updates of `rounds` died; killed_agents: agents that were killed in the same moment or soon after.
    finished: updates that were faster. without_model: moments after a kill at which no whole, verified model was there
    to run. reads: of the link by a reader; torn of them gave something that is no bundle."""

    rounds: int = 0
    killed_updates: int = 0
    killed_agents: int = 0
    finished: int = 0
    commits: int = 0
    without_model: int = 0
    reads: int = 0
    torn: int = 0


def kill_rounds(folder: Path, rounds: int, seed: int = 0) -> Tally:
    """Versions 2 to rounds + 1, one a round. Every third round kills the agent, too."""
    random_, tally, state = random.Random(seed), Tally(rounds), folder / "state"
    bundles = [make_bundle(folder / f"{n}.bundle", version=n) for n in range(FIRST, FIRST + rounds + 1)]
    np.savez(folder / "x.npz", x=frames(20))
    began = time.monotonic()
    done = run_cli("update", bundles[0], "--state", state, "--rehearsal", "0.1")
    assert done.returncode == 0, done.stderr
    takes_s = time.monotonic() - began
    versions = model_folder(state, "digits")
    versions.commit()
    agents = Agents(folder)
    reader = _reader(versions, bundles)
    try:
        agent = _start(agents, versions, folder)
        for number, bundle in enumerate(bundles[1:]):
            update = subprocess.Popen(
                [sys.executable, "-m", "edgeloop_agent.cli", "update", str(bundle), "--state", str(state),
                 "--rehearsal", "0.1"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                code = update.wait(random_.uniform(0.2, 1.3) * takes_s)
            except subprocess.TimeoutExpired:
                update.kill()
                code = update.wait()
            tally.finished += code >= 0
            tally.killed_updates += code == -signal.SIGKILL
            if number % 3 == 2:
                time.sleep(random_.uniform(0.0, 2.0))
                agent.process.kill()
                agent.process.wait()
                tally.killed_agents += 1
            tally.without_model += not _has_model(versions)
            if agent.process.poll() is not None:
                agent = _start(agents, versions, folder)
            before = versions.standing().committed
            _wait_until_settled(versions, agent)
            tally.commits += versions.standing().committed != before
            tally.without_model += not _has_model(versions)
        agent.process.terminate()
        agent.process.wait(90)
        reader.terminate()
        tally.reads, tally.torn = json.loads(reader.communicate(timeout=90)[0])
    finally:
        reader.kill()
        agents.close()
    return tally


def _has_model(versions: VersionFolder) -> bool:
    """What the link leads to is whole and signed by a trusted key."""
    running = versions.standing().running
    return running is not None and Bundle.open(versions.current).manifest.version == running.number


def _start(agents: Agents, versions: VersionFolder, folder: Path) -> Agent:
    agent = agents.start(
        "--bundle", versions.current, "--source", f"npz:{folder / 'x.npz'}", "--loop", "--rate", "50", "--trial", "1"
    )
    agent.wait_until_said("runs on")
    return agent


def _wait_until_settled(versions: VersionFolder, agent: Agent) -> None:
    """Nothing is on trial, or what is on trial in the record was never switched to."""

    def settled() -> bool:
        standing = versions.standing()
        return standing.trial is None or standing.running == standing.committed

    agent.wait_until(settled, "the trial ended")


def _reader(versions: VersionFolder, bundles: Sequence[Path]) -> subprocess.Popen[str]:
    known = [hashlib.sha256(bundle.read_bytes()).hexdigest() for bundle in bundles]
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _READER, str(versions.current), *known], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "reads\n"
    return process
