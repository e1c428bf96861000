"""What the agent's processes must not load: memory on a small board."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.agents import make_bundle

HEAVY = (
    "tensorflow",
    "torch",
    "pandas",
    "sqlalchemy",
    "starlette",
    "rich",
    "sklearn",
    "cryptography",
    "ai_edge_quantizer",
)


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_agent_loads_nothing_heavy() -> None:
    loaded = modules_after("import edgeloop_agent")
    assert not loaded & {*HEAVY, "numpy", "cv2"}


@pytest.mark.parametrize("telemetry", [[], ["--telemetry", "http://127.0.0.1:1", "--stop-timeout", "0"]])
def test_a_supervisor_that_ran_never_loaded_numpy(tmp_path: Path, telemetry: list[str]) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    arguments = [
        "run",
        "--bundle",
        str(bundle),
        "--source",
        "synthetic:",
        "--count",
        "5",
        "--state",
        str(tmp_path / "s"),
    ]
    loaded = modules_after(f"from edgeloop_agent.cli import main\nassert main({arguments + telemetry!r}) == 0")
    assert not loaded & {*HEAVY, "numpy", "cv2", "ai_edge_litert", "asyncio"}


def test_a_worker_loads_only_what_it_runs_on() -> None:
    loaded = modules_after(
        "import edgeloop_agent.worker.main, edgeloop_agent.worker.pipeline, edgeloop_agent.sources.npz\n"
        "import edgeloop.runtime.session"
    )
    assert not loaded & {*HEAVY, "serial", "sqlite3", "http"}


def test_sensors_and_sound_need_no_opencv() -> None:
    sources = ", ".join(f"edgeloop_agent.sources.{name}" for name in ("npz", "serial_lines", "wav", "synthetic"))
    sinks = ", ".join(f"edgeloop_agent.sinks.{name}" for name in ("json_lines", "mqtt", "serial_line", "snapshots"))
    loaded = modules_after(f"import {sources}, {sinks}, edgeloop_agent.capture.capture")
    assert not loaded & {*HEAVY, "cv2", "serial", "paho", "http"}
