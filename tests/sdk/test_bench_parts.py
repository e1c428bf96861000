"""The parts of a measurement that make its numbers mean something: confidence, the thermal guard, times per op."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bench import litert_profiler
from edgeloop.bench.confidence import median_interval
from edgeloop.bench.per_op import OpProfile, main, profile_here, profile_model, read_profiles
from edgeloop.bench.thermal import wait_until_cool
from edgeloop.boards import detect_board
from edgeloop.cli.main import main as edgeloop
from edgeloop.errors import DeviceError, UsageError
from edgeloop.graph import Graph


def test_the_interval_has_the_ranks_of_the_tables() -> None:
    """Conover's table A3 and Le Boudec's table A.1 for the median at 95 %."""
    for n, ranks in ((6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33)), (70, (27, 44)), (100, (40, 61))):
        assert median_interval(range(1, n + 1)) == ranks
    assert median_interval(range(5)) is None
    assert median_interval([]) is None


def test_it_covers_the_true_median_as_often_as_it_says() -> None:
    rng = random.Random(1)
    covers = 0
    for _ in range(600):
        low, high = median_interval([rng.expovariate(1.0) for _ in range(40)]) or (0, 0)
        covers += low <= 0.693147 <= high
    assert covers / 600 > 0.93


@given(st.lists(st.floats(0, 1e6), min_size=6, max_size=1500))
def test_the_samples_median_lies_in_it(samples: list[float]) -> None:
    low, high = median_interval(samples) or (0.0, 0.0)
    assert low <= median(samples) <= high


def test_a_hot_board_is_waited_for_and_it_is_said() -> None:
    flags = iter([4, 4, 0])
    board = replace(detect_board(), throttling=lambda _root: next(flags))
    said: list[str] = []
    start = wait_until_cool(board, note=said.append, temperature=lambda: 55.0, sleep=lambda _s: None)
    assert (start.waited_s, start.throttled, start.temperature_c) == (2.0, False, 55.0)
    assert len(said) == 1


def test_a_board_that_does_not_cool_is_measured_all_the_same_and_it_is_known() -> None:
    board = replace(detect_board(), throttling=lambda _root: 4)
    start = wait_until_cool(board, 3.0, temperature=lambda: 85.0, sleep=lambda _s: None)
    assert (start.waited_s, start.throttled) == (3.0, True)
    hot = replace(detect_board(), throttling=lambda _root: None)
    assert wait_until_cool(hot, 2.0, temperature=lambda: 79.0, sleep=lambda _s: None).waited_s == 2.0
    assert wait_until_cool(hot, 2.0, temperature=lambda: 60.0, sleep=lambda _s: None).waited_s == 0.0
    assert wait_until_cool(hot, 2.0, temperature=lambda: None, sleep=lambda _s: None).waited_s == 0.0


@pytest.fixture
def profiled(digits_tflite: Path) -> OpProfile:
    try:
        litert_profiler.check_version()
    except UsageError as error:
        pytest.skip(error.message)
    return profile_here(digits_tflite, delegate="cpu", threads=1, n=30)


def test_the_builtin_kernels_rows_are_the_models_ops(profiled: OpProfile, digits_tflite: Path) -> None:
    names = [op.name for op in Graph.read(digits_tflite).subgraphs[0].ops]
    assert [(op.index, op.name) for op in profiled.ops] == list(enumerate(names))
    assert sum(op.share for op in profiled.ops) == pytest.approx(1.0, abs=0.001)
    assert profiled.ops_ms == pytest.approx(sum(op.ms for op in profiled.ops), abs=1e-4)
    assert {op.ran_on for op in profiled.ops} == {"cpu"}


def test_what_xnnpack_took_is_its_nodes(profiled: OpProfile, digits_tflite: Path) -> None:
    ops = profile_here(digits_tflite, delegate="xnnpack", threads=2, n=10).ops
    assert any(op.ran_on == "xnnpack" and op.index is None and "Convolution" in op.name for op in ops)


def test_another_version_is_refused_in_a_plain_sentence(
    monkeypatch: pytest.MonkeyPatch, digits_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(litert_profiler.metadata, "version", lambda _name: "9.9.9")
    with pytest.raises(UsageError, match=r"known how to read for ai-edge-litert 2\.3\.0 only, this is .* 9\.9\.9"):
        profile_model(digits_tflite)
    assert main([str(digits_tflite)]) == 2
    with pytest.raises(DeviceError, match="only"):
        read_profiles(capsys.readouterr().out.encode())
    with pytest.raises(DeviceError, match="something else"):
        read_profiles(b'{"profiles": [{}]}')


def test_bench_per_op(profiled: OpProfile, digits_tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edgeloop(["bench", str(digits_tflite), "--per-op", "--delegate", "cpu", "-n", "5", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["n"], data["delegate"], len(data["ops"])) == (5, "cpu", len(profiled.ops))
    assert edgeloop(["bench", str(digits_tflite), "--per-op", "--delegate", "edgetpu"]) != 0
    assert "on xnnpack or cpu" in capsys.readouterr().err
