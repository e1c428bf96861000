"""The delegate matrix on aarch64 (qemu-user, a Debian arm64 tree), with a delegate that was cross-built."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeloop.bundle.keys import load_or_create_signing_key
from support.board import board_agent
from support.debian_root import DebianRoot, debian_root
from support.delegate_cases import CASES, Case, Run, check_case, check_coral, make_coral_bundle, make_inputs
from support.delegate_lib import build_delegate

pytestmark = [pytest.mark.emulated, pytest.mark.slow]


@pytest.fixture(scope="module")
def root() -> DebianRoot:
    return debian_root()


@pytest.fixture(scope="module")
def agent(root: DebianRoot, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return board_agent(root, tmp_path_factory.mktemp("board"))


@pytest.fixture
def run(root: DebianRoot, agent: list[str], tmp_path: Path) -> Run:
    def run_there(*arguments: object, **_: Any) -> tuple[int, dict[str, Any], str]:
        key = load_or_create_signing_key().public_path
        command = [*agent, "run", "--json", "--state", tmp_path / "state", "--trust", key, *arguments]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=root.environment, timeout=240, check=False
        )
        return done.returncode, json.loads(done.stdout), done.stderr

    return run_there


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whatever_a_delegate_does_frames_go_on_there(
    case: Case, run: Run, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if case.says == "not ready":  # an emulated worker takes seconds to start on a busy host
        case = replace(case, settings=("--load-timeout", 15))
    seen = check_case(case, run, build_delegate(machine="aarch64"), make_inputs(tmp_path), tmp_path)
    if seen.gap_s is not None:
        record_property("gap_s", round(seen.gap_s, 3))


def test_a_compiled_coral_model_needs_a_delegate_that_brings_its_op_there(
    run: Run, tmp_path: Path, shared_data: Path
) -> None:
    model = (shared_data / "models/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    check_coral(run, build_delegate(machine="aarch64"), make_coral_bundle(tmp_path, model))
