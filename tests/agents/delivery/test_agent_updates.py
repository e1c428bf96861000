"""A running agent takes what `update` brought, commits it or goes back, and says so in its reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import TrustStore, load_or_create_signing_key
from edgeloop.bundle.keys import create_signing_key
from edgeloop.bundle.packer import sign_bundle
from edgeloop.errors import EdgeloopError
from edgeloop_agent.delivery.apply import model_folder, offer_bundle
from edgeloop_agent.delivery.update import Budget, Rehearsal
from edgeloop_agent.delivery.versions import VersionFolder
from edgeloop_agent.service.status import ask
from support.agents import Agents, frames, make_bundle, residual_int8, run_cli
from support.delegate_lib import ADD, RESHAPE, build_delegate, external


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path) -> VersionFolder:
    """Version 7 is committed."""
    assert update(make_bundle(tmp_path / "7.bundle"), tmp_path)["state"] == "trial"
    folder = model_folder(tmp_path / "state", "digits")
    folder.commit()
    np.savez(tmp_path / "x.npz", x=frames(20))
    return folder


def update(bundle: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    done = run_cli("update", bundle, "--state", tmp_path / "state", "--rehearsal", "0.1", "--json", *more)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(tmp_path: Path) -> dict[str, Any]:
    """What the agent says of its model; {} while it starts or changes over."""
    try:
        models: list[dict[str, Any]] = ask(tmp_path / "state")["models"]
    except EdgeloopError:
        return {}
    return models[0] if models else {}


def running(tmp_path: Path) -> int | None:
    return told(tmp_path).get("version")


def phase(tmp_path: Path) -> str | None:
    return told(tmp_path).get("phase")


def words(folder: VersionFolder, tmp_path: Path) -> list[str | Path]:
    source = f"npz:{tmp_path / 'x.npz'}"
    return ["--bundle", folder.current, "--source", source, "--loop", "--rate", "50", "--trial", "1"]


def test_a_good_version_is_taken_without_a_restart_and_committed(
    tmp_path: Path, folder: VersionFolder, agents: Agents
) -> None:
    agent = agents.start(*words(folder, tmp_path))
    agent.wait_until(lambda: running(tmp_path) == 7, "version 7 runs")
    assert update(make_bundle(tmp_path / "8.bundle", version=8), tmp_path)["state"] == "trial"
    agent.wait_until_said("update: version 8 is on trial")
    agent.wait_until_said("committed: version 8: well for")
    standing = folder.standing()
    assert standing.committed is not None and standing.committed.number == 8 and standing.trial is None
    assert running(tmp_path) == 8
    assert agent.stop()["inferences"] > 0


@pytest.mark.slow
def test_a_version_that_cannot_run_is_rolled_back_and_the_agent_runs_on(
    tmp_path: Path, folder: VersionFolder, agents: Agents
) -> None:
    # Rehearsed on another delegate than the one that crashes with it; version 7 has no ADD.
    crashing = external(build_delegate(), claim_op=ADD, crash_invoke=1)
    agent = agents.start(*words(folder, tmp_path), "--delegate", crashing)
    agent.wait_until(lambda: phase(tmp_path) == "running", "version 7 runs")
    bundle = make_bundle(tmp_path / "8.bundle", version=8, model=residual_int8())
    assert update(bundle, tmp_path)["state"] == "trial"
    agent.wait_until_said("rollback: version 8 to version 7:")
    agent.wait_until(lambda: phase(tmp_path) == "running", "version 7 runs")
    standing = folder.standing()
    assert standing.running is not None and standing.running.number == 7 and len(standing.failed) == 1
    assert running(tmp_path) == 7
    assert update(bundle, tmp_path)["reason"].startswith("version 8 failed here before")
    assert agent.process.poll() is None
    agent.stop()


@pytest.mark.slow
def test_what_fails_is_tried_once_however_often_it_is_offered(
    tmp_path: Path, folder: VersionFolder, agents: Agents
) -> None:
    crashing = external(build_delegate(), claim_op=ADD, crash_invoke=1)
    agent = agents.start(*words(folder, tmp_path), "--delegate", crashing)
    agent.wait_until(lambda: phase(tmp_path) == "running", "version 7 runs")
    trust, well = TrustStore.default(), Rehearsal("cpu", 1, 1.0, 1)
    for number in (8, 9, 10):
        bundle = make_bundle(tmp_path / f"{number}.bundle", version=number, model=residual_int8())
        said: list[str] = []
        while said.count("refused") < 50:  # the first is the rollback's own moment, the others follow it closely
            done = offer_bundle(
                bundle, tmp_path / "state", trust=trust, rehearse=lambda _: well, budget=Budget(), device=""
            )
            said.append(done.state)
        assert said.count("trial") == 1, said
        assert agent.said.count(f"update: version {number} is on trial") == 1
    agent.stop()


@pytest.mark.slow
def test_an_accelerator_of_one_process_is_lent_to_the_rehearsal(
    tmp_path: Path, folder: VersionFolder, agents: Agents
) -> None:
    exclusive = external(build_delegate(), claim_op=RESHAPE, lock=tmp_path / "stick")
    agent = agents.start(*words(folder, tmp_path), "--delegate", exclusive, "--delegate", "xnnpack")
    agent.wait_until(lambda: phase(tmp_path) == "running", "version 7 runs")
    assert told(tmp_path)["delegate_ran"] == "external"
    more = ("--delegate", exclusive, "--delegate", "xnnpack")
    done = update(make_bundle(tmp_path / "8.bundle", version=8), tmp_path, *more)
    assert done["state"] == "trial" and done["rehearsal"]["delegate"] == "external", done
    agent.wait_until_said("committed: version 8")
    assert told(tmp_path)["delegate_ran"] == "external"
    agent.stop()


@pytest.mark.slow
def test_a_version_that_the_agent_does_not_trust_is_rolled_back_at_its_start(
    tmp_path: Path, folder: VersionFolder, agents: Agents
) -> None:
    own = load_or_create_signing_key().public_path
    stranger = create_signing_key(tmp_path / "stranger")
    bundle = make_bundle(tmp_path / "8.bundle", version=8, signed=False)
    sign_bundle(bundle, stranger)
    assert update(bundle, tmp_path, "--trust", str(stranger.public_path))["state"] == "trial"
    code, summary, said = agents.run(*words(folder, tmp_path), "--trust", own, "--count", "5")
    assert (code, summary["inferences"]) == (0, 5), said
    assert "rollback: version 8 to version 7:" in said and "not trusted here" in said


@pytest.mark.slow
def test_a_rollback_by_hand_is_taken_at_once(tmp_path: Path, folder: VersionFolder, agents: Agents) -> None:
    update(make_bundle(tmp_path / "8.bundle", version=8), tmp_path)
    folder.commit()
    agent = agents.start(*words(folder, tmp_path))
    agent.wait_until(lambda: running(tmp_path) == 8, "version 8 runs")
    assert run_cli("rollback", "--state", tmp_path / "state").returncode == 0
    agent.wait_until(lambda: running(tmp_path) == 7, "version 7 runs")
    agent.stop()


@pytest.mark.slow
def test_killed_agents_fall_back_after_three_starts(tmp_path: Path, folder: VersionFolder, agents: Agents) -> None:
    update(make_bundle(tmp_path / "8.bundle", version=8), tmp_path)
    for _ in range(3):
        agent = agents.start(*words(folder, tmp_path)[:-1], "3600")
        agent.wait_until(lambda: running(tmp_path) == 8, "version 8 runs")
        agent.process.kill()
        agent.process.wait()
    agent = agents.start(*words(folder, tmp_path))
    agent.wait_until_said("rollback: version 8 to version 7: the agent was started 3 times")
    agent.wait_until(lambda: running(tmp_path) == 7, "version 7 runs")
    agent.stop()
