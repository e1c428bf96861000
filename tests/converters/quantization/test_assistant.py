"""The process beside: the same answers as here, its errors as one line, its death survived or said."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop_converters.aeq import Rule, pack
from edgeloop_converters.assistant import Assistant, Crashed
from edgeloop_converters.calibration import Ranges, calibrate
from support.tiny_models import tiny_cnn


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny_cnn()


@pytest.fixture(scope="module")
def ranges(model: bytes) -> Ranges:
    rng = np.random.default_rng(0)
    return calibrate(model, [rng.random((1, 8, 8, 3), np.float32) for _ in range(8)])


def test_it_packs_the_same_file_as_this_process(model: bytes, ranges: Ranges) -> None:
    with Assistant() as assistant:
        assistant.expect("pack")
        for rules in ([Rule()], [Rule(), Rule(op="FULLY_CONNECTED", per_tensor=True)], [Rule("dynamic")]):
            limits = None if rules[0].kind == "dynamic" else ranges
            assert pack(model, limits, rules, assistant) == pack(model, limits, rules)


def test_what_the_library_refuses_is_one_line_and_the_next_question_is_answered(model: bytes, ranges: Ranges) -> None:
    with Assistant() as assistant:
        with pytest.raises(UsageError, match="ai-edge-quantizer cannot quantize") as refused:
            pack(model, Ranges({}, 1), [Rule()], assistant)
        assert "\n" not in refused.value.message
        assert pack(model, ranges, [Rule()], assistant)


def test_a_crash_is_said_with_its_signal(model: bytes, ranges: Ranges) -> None:
    with Assistant() as assistant:
        assert assistant._process is not None
        assistant._process.send_signal(11)
        assistant._process.wait()
        with pytest.raises(UsageError, match=r"crashed \(SIGSEGV\)"):
            pack(model, ranges, [Rule()], assistant)
        with pytest.raises(Crashed):
            assistant.ask("score", {"labels": [0], "predictions": [0]})


def test_it_ends_with_its_parent() -> None:
    code = (
        "import os, sys; from edgeloop_converters.assistant import Assistant; a = Assistant(); "
        "print(a._process.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    subprocess.run(["tail", f"--pid={int(done.stdout)}", "-f", "/dev/null"], check=True, timeout=60)
