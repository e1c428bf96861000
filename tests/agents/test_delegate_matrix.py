"""The delegate matrix on this machine. `tests/emulated` runs the same table on aarch64."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agents import Agents
from support.delegate_cases import CASES, Case, check_case, check_coral, make_coral_bundle, make_inputs
from support.delegate_lib import ADD, build_delegate, external

ALLOWED_S = 1.0
_PATIENCE = float(os.environ.get("EDGELOOP_TEST_PATIENCE", "60"))  # the suite's machines are shared


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    return make_inputs(tmp_path)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whatever_a_delegate_does_frames_go_on(
    case: Case,
    agents: Agents,
    inputs: tuple[Path, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    seen = check_case(case, agents.run, build_delegate(), inputs, tmp_path)
    if seen.gap_s is not None:
        record_property("gap_s", round(seen.gap_s, 3))
        assert seen.gap_s < ALLOWED_S * _PATIENCE


@pytest.mark.slow
def test_a_driver_that_hangs_is_found_by_what_it_took_before(
    agents: Agents, inputs: tuple[Path, Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    hanging = external(build_delegate(), claim_op=ADD, hang_invoke=1, after=250)
    code, summary, said = agents.run(
        "--bundle", inputs[0], "--source", "synthetic:", "--count", 400, "--rate", 200,
        "--sink", f"jsonl:{tmp_path}/out", "--delegate", hanging, "--delegate", "cpu",
    )  # fmt: skip
    assert code == 0, said
    (fallback,) = summary["fallbacks"]
    assert "hung: an invoke took more than" in fallback
    times = [json.loads(line)["time"] for line in (tmp_path / "out").read_text().splitlines()]
    gap_s = max(b - a for a, b in itertools.pairwise(times))
    record_property("gap_s", round(gap_s, 3))
    assert gap_s < ALLOWED_S * _PATIENCE
    assert (summary["frames"], summary["drops"], summary["delegate_ran"]) == (400, 1, "cpu")


@pytest.mark.slow
def test_a_compiled_coral_model_needs_a_delegate_that_brings_its_op(
    agents: Agents, tmp_path: Path, shared_data: Path
) -> None:
    model = (shared_data / "models/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    check_coral(agents.run, build_delegate(), make_coral_bundle(tmp_path, model))
