"""Autotune: the decisions alone, then a real bundle measured and what the agent makes of the result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop_agent.autotune.halving import (
    INDISTINCT,
    SLICES,
    UNSTEADY,
    Candidate,
    Measured,
    best,
    better_half,
    candidates,
    rounds,
    slice_s,
    thread_counts,
    turns,
)
from edgeloop_agent.autotune.objectives import OBJECTIVES
from edgeloop_agent.autotune.tuned import FILE, Key, Tuned, find, save
from support.agents import Agents, make_bundle, run_cli
from support.collecting import wait_until
from support.delegate_lib import build_delegate, external


def measured(ms: float, threads: int = 1, order: int = 0, rss: int = 0, failed: str = "") -> Measured:
    return Measured(Candidate("int8", "xnnpack", threads, order), [int(ms * 1e6)] * 5, rss, failed=failed)


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (0, (1,))])
def test_threads_that_are_tried(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_threads_are_tried_where_the_work_is_the_hosts() -> None:
    found = candidates([("edgetpu", ["edgetpu"]), ("int8", ["xnnpack", "cpu"])], (1, 2, 4), {"xnnpack", "cpu"})
    assert [str(c) for c in found] == [
        "edgetpu on edgetpu, 1 thread",
        *(f"int8 on {d}, {n} thread{'s' * (n > 1)}" for d in ("xnnpack", "cpu") for n in (1, 2, 4)),
    ]


def test_the_fewest_threads_win_where_more_gain_nothing() -> None:
    one, two, four = measured(10.0, 1), measured(9.8, 2, 1), measured(5.0, 4, 2)
    assert best([one, two], "latency") is one
    assert best([one, two, four], "latency") is four
    assert best([one, replace(four, failed="crashed")], "latency") is one
    assert best([replace(one, failed="x")], "latency") is None


def test_each_objective_looks_at_its_own_number() -> None:
    steady, spiky, small = (
        measured(10.0, order=0, rss=90),
        measured(9.0, order=1, rss=80),
        measured(20.0, order=2, rss=10),
    )
    spiky.times_ns.append(18_000_000)
    assert [best([steady, spiky, small], o) for o in OBJECTIVES] == [spiky, steady, small]


def test_a_fine_median_with_a_long_tail_does_not_win() -> None:
    steady, unsteady = measured(10.0), measured(5.0, 4, 1)
    unsteady.times_ns += [60_000_000, 80_000_000]
    assert best([steady, unsteady], "latency") is steady


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40), st.sampled_from(OBJECTIVES[:2]))
def test_the_best_survives_every_round_and_the_time_suffices(times: list[float], objective: str) -> None:
    left = [measured(ms, order=i) for i, ms in enumerate(times)]
    count, spent, played = len(left), 0.0, 0
    while True:
        spent += slice_s(60.0, count, len(left)) * len(list(turns(left)))
        played += 1
        if len(left) <= 2:
            break
        left = better_half(left, objective)
    assert played <= rounds(count)
    assert spent <= 60.0 * 1.0001
    winner = best(left, objective)
    assert winner is not None
    assert winner.p50_ms <= min(times) * (1 + INDISTINCT) * 1.000001


def test_candidates_take_turns_forth_and_back() -> None:
    left = [measured(1.0, order=i) for i in range(3)]
    order = [m.candidate.order for m in turns(left)]
    assert order == [0, 1, 2, 2, 1, 0] * (SLICES // 2)


KEY = Key("ic-3-0123456789ab", "Raspberry Pi 5", 4, "ai-edge-litert 2.3.0")
TUNED = Tuned("latency", "int8", "xnnpack", 2, 1.5, 2.5, 1.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runtime": "ai-edge-litert 2.4.0"}, "runtime ai-edge-litert 2.3.0 is now ai-edge-litert 2.4.0"),
        ({"bundle": "ic-4-ba9876543210"}, "bundle ic-3-0123456789ab is now ic-4-ba9876543210"),
        ({"board": "Raspberry Pi 4"}, "board Raspberry Pi 5 is now Raspberry Pi 4"),
        ({"bundle": "other-1-000000000000"}, ""),
    ],
)
def test_a_result_holds_where_it_was_found_and_says_what_changed(
    tmp_path: Path, change: dict[str, str], says: str
) -> None:
    save(tmp_path, KEY, replace(TUNED, threads=4))
    save(tmp_path, KEY, TUNED)
    assert find(tmp_path, KEY) == (TUNED, "")
    assert find(tmp_path, replace(KEY, **change)) == (None, says)


@given(st.binary(max_size=60) | st.sampled_from([b"{}", b'{"version": 1, "entries": [1]}', b'{"version": 2}', b"[]"]))
def test_a_damaged_file_is_no_result(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("state")
    (folder / FILE).write_bytes(content)
    assert find(folder, KEY) == (None, "")
    save(folder, KEY, TUNED)
    assert find(folder, KEY) == (TUNED, "")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


TOO_SHORT = ("the time was over", "hung: no answer within")


def tune(bundle: Path, state: Path, *more: str) -> dict:
    """In a short time, or on a busy machine in as much as it takes to try all."""
    for budget_s in (3, 20, 80):
        words = ("--bundle", bundle, "--state", state, "--time-budget", str(budget_s), "--json", *more)
        done = run_cli("autotune", *words)
        told = json.loads(done.stdout) if done.returncode == 0 else {}
        if any(reason in done.stdout + done.stderr for reason in TOO_SHORT):
            continue
        assert done.returncode == 0, done.stderr
        assert told["seconds"] < budget_s + 60
        if "memory" in more or all(row["n"] or row["failed"] for row in told["candidates"]):
            return told
    raise AssertionError(done.stdout + done.stderr)


@pytest.mark.slow
def test_the_agent_takes_what_was_measured_until_the_user_says_otherwise(agents: Agents, tmp_path: Path) -> None:
    bundle, state = make_bundle(tmp_path / "digits.bundle"), tmp_path / "state"
    told = tune(bundle, state)
    assert {row["delegate"] for row in told["candidates"]} == {"xnnpack", "cpu"}
    assert all(row["n"] > 0 and not row["failed"] for row in told["candidates"])
    chosen = (told["best"]["delegate"], told["best"]["threads"])
    (mean_ms,) = (r["mean_ms"] for r in told["candidates"] if (r["delegate"], r["threads"]) == chosen)
    assert mean_ms <= told["default"]["mean_ms"] * UNSTEADY * 1.01
    # What was found is made unmistakable here: no other way would choose it.
    stored = json.loads((state / FILE).read_text())
    stored["entries"][0]["tuned"] |= {"threads": 3, "delegate": "cpu"}
    (state / FILE).write_text(json.dumps(stored))
    arguments = ("--bundle", bundle, "--source", "synthetic:", "--count", "20")
    code, summary, said = agents.run(*arguments)
    assert (code, summary["threads"], summary["delegate_asked"]) == (0, 3, "cpu"), said
    assert [e["kind"] for e in summary["events"]] == ["tuned"]
    assert "tuned: int8 on cpu, 3 threads (autotune for latency)" in said
    code, summary, said = agents.run(*arguments, "--threads", "1")
    assert (code, summary["threads"], summary["delegate_asked"], "tuned" in said) == (0, 1, "xnnpack", False)


@pytest.mark.slow
def test_after_an_update_the_result_is_not_taken_and_that_is_said(agents: Agents, tmp_path: Path) -> None:
    old, state = make_bundle(tmp_path / "digits.bundle"), tmp_path / "state"
    tune(old, state, "--delegate", "cpu")
    new = make_bundle(tmp_path / "new.bundle", delegates=("xnnpack",))
    code, summary, said = agents.run("--bundle", new, "--source", "synthetic:", "--count", "5")
    assert (code, summary["delegate_asked"], summary["threads"]) == (0, "xnnpack", 1)
    assert "edgeloop-agent autotune measures again" in said


@pytest.mark.slow
def test_a_config_may_ask_to_measure_whatever_was_not_yet(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle", delegates=("cpu",))
    config = tmp_path / "agent.toml"
    config.write_text(f'bundle = "{bundle}"\nsource = "synthetic:"\ncount = 5\nautotune = "latency"\n')
    code, summary, said = agents.run("--config", config)
    assert (code, summary["delegate_asked"], "autotune: measuring" in said) == (0, "cpu", True), said
    assert [event["kind"] for event in summary["events"]] == ["tuned"]
    assert "autotune: measuring" not in agents.run("--config", config)[2]
    assert "autotune: measuring" not in agents.run("--config", config, "--threads", "1")[2]
    updated = make_bundle(tmp_path / "digits.bundle", delegates=("xnnpack",))
    assert "autotune: measuring" in agents.run("--config", config, "--bundle", updated)[2]


def test_a_delegate_that_crashes_hangs_or_is_not_there_is_out_and_the_rest_is_measured(tmp_path: Path) -> None:
    broken = external(build_delegate(), crash_create=1)
    bundle = make_bundle(tmp_path / "digits.bundle")
    told = tune(bundle, tmp_path / "state", "--delegate", broken, "--delegate", "edgetpu", "--delegate", "cpu")
    failed = {row["delegate"]: row["failed"] for row in told["candidates"] if row["failed"]}
    assert "crashed (signal 11)" in failed[broken]
    assert "libedgetpu" in failed["edgetpu"]
    assert told["best"]["delegate"] == "cpu"


def has_ended(process: Path) -> bool:
    try:
        return "\nState:\tZ" in (process / "status").read_text()
    except OSError:
        return True


def test_a_candidate_that_hangs_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    hanging = external(build_delegate(), hang_create=1)
    words = ["autotune", "--bundle", str(make_bundle(tmp_path / "digits.bundle")), "--state", str(tmp_path / "state")]
    tuning = subprocess.Popen([sys.executable, "-m", "edgeloop_agent.cli", *words, "--delegate", hanging])
    try:
        children = Path(f"/proc/{tuning.pid}/task/{tuning.pid}/children")
        wait_until(lambda: bool(children.read_text()), "a child")
        child = Path(f"/proc/{children.read_text().split()[0]}")
        wait_until(lambda: "xdelegate" in (child / "maps").read_text(), "the driver to be loaded")
    finally:
        tuning.kill()
        tuning.wait()
    wait_until(lambda: has_ended(child), "the child's end")


@pytest.mark.slow
def test_memory_is_told_by_processes_of_their_own(tmp_path: Path) -> None:
    told = tune(
        make_bundle(tmp_path / "digits.bundle"), tmp_path / "state", "--optimize", "memory", "--delegate", "cpu"
    )
    assert all(row["rss_bytes"] > 10 << 20 for row in told["candidates"])


def test_nothing_that_runs_is_one_line(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    state = tmp_path / "state"
    done = run_cli("autotune", "--bundle", bundle, "--state", state, "--delegate", "edgetpu", "--time-budget", "60")
    assert (done.returncode, "libedgetpu" in done.stderr, "Traceback" in done.stderr) == (3, True, False)
    assert not (state / FILE).exists()


def test_it_does_not_measure_beside_a_running_agent(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--rate", "20")
    agent.wait_until_said("runs on")
    done = run_cli("autotune", "--bundle", bundle, "--state", tmp_path / "state")
    assert (done.returncode, "another agent" in done.stderr) == (2, True)
    agent.stop()
