"""The whole agent on live sources: every frame is counted, waiting is no work, a stop is heard."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from support import cameras
from support.agents import Agents, make_bundle


def test_the_agent_counts_every_frame_of_a_camera_that_is_faster_than_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    good, cut = cameras.jpeg(1), cameras.jpeg(2)[:300]
    server = cameras.mjpeg_server(lambda: (cut if i % 4 == 3 else good for i in range(150)), period_s=0.002)
    agents = Agents(tmp_path)
    out = tmp_path / "out.jsonl"
    agent = agents.start(
        "--bundle", bundle, "--source", f"http://127.0.0.1:{server.port}/", "--rate", "50", "--sink", f"jsonl:{out}"
    )
    try:
        agent.wait_until_said("source_back")  # the stream ended once, and was taken up again
        summary = agent.stop()
    finally:
        agents.close()
        server.close()
    assert summary["end"] == "stop"
    assert summary["drops"] > 10 and summary["errors"] >= 1
    assert summary["frames"] == summary["inferences"] + summary["gated"] + summary["errors"] + summary["drops"]
    kinds = [event["kind"] for event in summary["events"]]
    assert kinds.count("bad_input") == 1
    assert kinds.count("source_lost") == kinds.count("source_back") == 1
    assert out.read_text().count("\n") == summary["inferences"]


def test_a_count_is_of_frames_that_were_taken(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    path = cameras.video(tmp_path / "v.avi", 100, fps=100)
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", f"video:{path}?live=1", "--rate", "20", "--count", "8", "--loop"
        )
    finally:
        agents.close()
    assert code == 0, said
    assert (summary["end"], summary["inferences"]) == ("count", 8)
    assert summary["frames"] == 8 + summary["drops"]
    assert summary["drops"] > 8


def test_an_agent_waits_for_its_camera_and_stops_when_asked(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    agents = Agents(tmp_path)
    agent = agents.start("--bundle", bundle, "--source", "camera:99", "--frame-timeout", "0.5")
    try:
        agent.wait_until_said("source_lost: source camera:99: /dev/video99 is not there")
        time.sleep(1.5)  # waiting is no work on a frame: nobody is ended for it
        summary = agent.stop()
    finally:
        agents.close()
    assert (summary["end"], summary["frames"], summary["restarts"]) == ("stop", 0, 0)
    assert agent.said.count("source_lost") == 1


def test_a_worker_that_is_killed_leaves_exact_counts_of_a_live_source(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    path = cameras.video(tmp_path / "v.avi", 100, fps=100)
    out = tmp_path / "out.jsonl"
    agents = Agents(tmp_path)
    agent = agents.start(
        "--bundle", bundle, "--source", f"video:{path}?live=1", "--loop", "--rate", "30", "--sink", f"jsonl:{out}"
    )
    try:
        agent.wait_until(lambda: out.exists() and out.read_text().count("\n") > 10, "wrote results")
        os.kill(agent.worker_pid or 0, signal.SIGKILL)
        agent.wait_until_said("runs on", 2)
        before = out.read_text().count("\n")
        agent.wait_until(lambda: out.read_text().count("\n") > before + 10, "wrote results again")
        summary = agent.stop()
    finally:
        agents.close()
    assert summary["restarts"] == 1
    assert summary["frames"] == summary["inferences"] + summary["errors"] + summary["drops"]
    assert summary["drops"] > 5
