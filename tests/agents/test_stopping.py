"""A stop takes two seconds at most, whatever hangs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agents import Agents, make_bundle
from support.delegate_lib import build_delegate, external

MOST_S = 2.0
SLACK_S = float(os.environ.get("EDGELOOP_TEST_PATIENCE", "60"))  # 0.8 on a machine that does nothing else


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def mute_collector() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("hangs", ["nothing", "worker", "collector", "both"])
def test_a_stop_takes_two_seconds_at_most(agents: Agents, mute_collector: str, tmp_path: Path, hangs: str) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    arguments = ["--bundle", bundle, "--source", "synthetic:", "--report-interval", "0.2"]
    if hangs in ("collector", "both"):
        arguments += ["--telemetry", mute_collector]
    if hangs in ("worker", "both"):
        arguments += ["--delegate", external(build_delegate(), claim_op=22, hang_invoke=1)]
    agent = agents.start(*arguments, "--rate", "50", "--frame-timeout", "600", "--invoke-timeout", "600")
    agent.wait_until_said("runs on")
    time.sleep(0.5)
    began = time.monotonic()
    agent.process.send_signal(signal.SIGTERM)
    summary = agent.summary()
    assert time.monotonic() - began < MOST_S + SLACK_S
    assert summary["end"] == "stop"
    if hangs in ("collector", "both"):
        assert summary["reports"]["waiting"] > 0
