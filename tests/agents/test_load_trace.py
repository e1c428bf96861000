"""Load traces: recorded by the agent, and replayed through the governor's law."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError, EdgeloopError
from edgeloop_agent.activation.governor import Signals
from edgeloop_agent.activation.levels import Law, Level, ladder
from edgeloop_agent.activation.load_trace import LoadRecorder, LoadTrace, Step, read_trace
from edgeloop_agent.activation.replay import at_level, replay
from support.agents import Agents, make_bundle, run_cli
from support.governed_board import LAW, PROGRAMS, SCENARIOS, run

HEAVY = Level(PROGRAMS[0])
SHIPPED = Path(__file__).parents[2] / "samples" / "smart_camera" / "load.jsonl"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def write(path: Path, steps: list[Step], law: Law | None = LAW) -> Path:
    recorder = LoadRecorder(path, law)
    for each in steps:
        assert recorder.record(each.signals, each.level, PROGRAMS) == ""
    recorder.close()
    return path


def overloaded(seconds: int = 60) -> list[Step]:
    """The heavy model at 70 ms where 55 are allowed, after 10 s at 40."""
    return [
        Step(Signals(100 + t / 2, p95_ms=70.0 if t > 20 else 40.0, overhead_ms=3.0, busy=0.8), HEAVY)
        for t in range(2 * seconds)
    ]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "l.jsonl", overloaded()))
    assert trace.steps == tuple(overloaded()) and trace.law == LAW and trace.programs == PROGRAMS
    assert trace.seconds == pytest.approx(59.5)


def test_a_file_holds_several_recordings_and_the_last_one_counts(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl", overloaded(10))
    path = write(tmp_path / "l.jsonl", overloaded(5), law=None)
    with path.open("a") as file:
        file.write('{"time_s": 3')  # the agent was killed in the middle of a line
    trace = read_trace(path)
    assert len(trace.steps) == 10 and trace.law is None


NO_HEAD = '{"load_trace": 2}\n'
NO_STEPS = '{"load_trace": 1, "law": null, "host": "x"}\n'


@pytest.mark.parametrize("text", ["", "{}", "[1]\n", "x\n", NO_HEAD, NO_STEPS, "[" * 9000 + "\n"])
def test_what_is_no_trace_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"l\.jsonl: "):
        read_trace(tmp_path / "l.jsonl")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_trace_is_read_or_refused_and_never_crashes(tmp_path_factory, data) -> None:
    path = write(tmp_path_factory.mktemp("t") / "l.jsonl", overloaded(3))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(32, 126))
    path.write_bytes(raw)
    try:
        trace = read_trace(path)
        replay(trace, ladder(trace.programs, LAW), LAW)
    except EdgeloopError:
        pass


def test_measurements_are_carried_over_by_what_programs_cost() -> None:
    seen = Signals(0.0, p95_ms=43.0, overhead_ms=3.0, busy=0.6, dropped=0.5, temperature_c=76.0)
    light = at_level(seen, HEAVY, Level(PROGRAMS[2], 2), LAW)
    assert light.p95_ms == pytest.approx(3.0 + 8.0)
    assert light.busy == pytest.approx(0.6 / 0.5 * 11.0 / 43.0 / 2) and light.dropped == 0.0
    assert light.temperature_c is not None and 60 < light.temperature_c < 76
    assert at_level(seen, HEAVY, HEAVY, LAW) == seen


def test_a_replay_holds_the_budget_that_the_recorded_run_missed() -> None:
    trace = LoadTrace("x", None, PROGRAMS, tuple(overloaded()))
    levels = ladder(PROGRAMS, LAW)
    fixed, governed = replay(trace, levels, LAW, governed=False), replay(trace, levels, LAW)
    assert fixed.held < 0.2 and not fixed.switches
    assert governed.held > 0.97 and governed.reasons[0].startswith("heavy -> middle: p95 70 ms")
    assert (governed.shortest_gap_s or LAW.dwell_s) >= LAW.dwell_s


def test_the_law_behaves_on_a_recording_as_it_did_on_the_board() -> None:
    board = run(SCENARIOS[2], governed=False)  # another tenant: no heat
    steps = [
        Step(Signals(t, p95_ms=p95 or None, overhead_ms=3.0 * p95 / 43, busy=min(1.0, p95 / 50)), HEAVY)
        for t, p95 in zip(board.times_s, board.p95_ms, strict=True)
    ]
    law = Law(latency_budget_ms=55.0)
    course = replay(LoadTrace("x", None, PROGRAMS, tuple(steps)), ladder(PROGRAMS, law), law)
    assert course.held >= 0.99 and course.oscillations(10 * law.dwell_s) <= 1


@pytest.mark.slow
def test_an_agent_records_its_load_and_simulate_replays_it(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "d.bundle")
    code, _summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--count", "150", "--record-load"
    )
    assert code == 0, said
    path = tmp_path / "state" / "load.jsonl"
    assert len(read_trace(path).steps) >= 4
    done = run_cli("simulate", "--trace", path, "--latency-budget", "0.0101", "--max-stride", "2", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["fixed"]["levels"] == {"int8": 1.0}
    assert answer["fixed"]["held"] < 0.5 and answer["steps"] >= 4
    text = run_cli("simulate", "--trace", path, "--latency-budget", "500").stdout
    assert "governed" in text and "100.0%" in text


def test_simulate_without_any_limit_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "l.jsonl", overloaded(3), law=None)
    done = run_cli("simulate", "--trace", path)
    assert done.returncode == 2 and "--latency-budget" in done.stderr and "Traceback" not in done.stderr
    done = run_cli("simulate", "--trace", path, "--quiet", "7")
    assert done.returncode == 2 and "quiet must be" in done.stderr
    done = run_cli("simulate", "--trace", tmp_path / "none.jsonl")
    assert done.returncode == 2 and "none.jsonl" in done.stderr


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no trace is shipped")
def test_the_shipped_trace_was_recorded_under_load_and_is_governed() -> None:
    trace = read_trace(SHIPPED)
    law = Law(latency_budget_ms=trace.programs[0].latency_ms * 1.6)
    levels = ladder(trace.programs, law)
    fixed, governed = replay(trace, levels, law, governed=False), replay(trace, levels, law)
    assert fixed.held < governed.held
