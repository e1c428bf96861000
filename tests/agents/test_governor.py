"""The governor's law: what it allows, and how it behaves on a board in software."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import ConfigError
from edgeloop_agent.activation.governor import Signals, State, input_activity, step
from edgeloop_agent.activation.levels import Law, Level, Program, ladder, shortcomings
from support.governed_board import LAW, PROGRAMS, SCENARIOS, Scenario, run

LEVELS = ladder(PROGRAMS, LAW)


def settle(levels, law, seconds=60.0, *, state=None, start_s=0.0, ready=None, **signals):
    """Steps twice a second with the same signals; p95_ms may be a function of the level."""
    state = state or State()
    decisions = []
    for tick in range(int(seconds * 2)):
        now = {k: v(levels[state.level]) if callable(v) else v for k, v in signals.items()}
        state, decision = step(levels, law, state, Signals(start_s + tick * 0.5, **now), ready=ready)
        decisions.append(decision)
    return state, decisions


def test_the_ladder_gives_up_accuracy_before_rate_or_the_other_way_round():
    names = [str(level) for level in LEVELS]
    assert names == ["heavy", "middle", "light", "light, every 2. frame", "light, every 4. frame"]
    law = Law(max_stride=2, prefer="accuracy")
    assert [(x.program.name, x.stride) for x in ladder(PROGRAMS[:2], law)] == [
        ("heavy", 1), ("heavy", 2), ("middle", 1), ("middle", 2)
    ]  # fmt: skip


def test_nothing_below_the_accuracy_floor_and_nothing_unmeasured_is_in_the_ladder():
    programs = [*PROGRAMS, Program("unmeasured", 1.0, 1.0, None)]
    assert {x.program.name for x in ladder(programs, Law(accuracy_floor=0.89))} == {"heavy", "middle"}
    with pytest.raises(ConfigError, match=r"at least 0\.95"):
        ladder(programs, Law(accuracy_floor=0.95))


def test_a_program_that_a_cheaper_one_equals_and_one_dearer_than_the_first_are_left_out():
    programs = [Program("int8", 10, 10, 0.9), Program("float", 40, 40, 0.95), Program("lite", 5, 5, 0.9)]
    assert [x.program.name for x in ladder(programs, Law())] == ["lite"]


EXITING = ladder(
    [Program("int8", 100, 50, 0.9), Program("int8-w75", 75, 75, 0.85), Program("int8-exit1", 35, 35, 0.7)], Law()
)
"""int8 stops early for most inputs: on average it takes less than a narrower variant that never does."""


def test_a_narrower_variant_stays_where_it_is_lighter_in_a_slow_frame_alone():
    assert [str(level) for level in EXITING] == ["int8", "int8-w75", "int8-exit1"]
    dearer = [EXITING[0].program, Program("int8-slow", 101, 60, 0.95), Program("int8-worse", 100, 55, 0.8)]
    assert [x.program.name for x in ladder(dearer, Law())] == ["int8"]


def test_a_slow_frame_asks_for_the_narrower_variant_and_heat_for_less_work():
    state, _ = settle(EXITING, LAW, 2.0, p95_ms=lambda at: 0.51 * at.program.latency_ms)
    assert str(EXITING[state.level]) == "int8-w75"
    hot = Law(temperature_limit_c=80.0)
    state, _ = settle(EXITING, hot, 2.0, temperature_c=82.0)
    assert str(EXITING[state.level]) == "int8-exit1", "the narrower variant would heat more than what ran"
    state, _ = settle(EXITING, hot, 60.0, state=state, start_s=2.0, temperature_c=60.0)
    assert str(EXITING[state.level]) == "int8"


@pytest.mark.parametrize(("steepness", "midpoint"), [(0.5, 0.0), (1.0, 0.0), (4.0, -0.5), (2.0, 1.0)])
def test_a_level_is_affordable_exactly_where_its_own_load_fits_whatever_lambda_and_t0_are(steepness, midpoint):
    law = Law(latency_budget_ms=100.0, steepness=steepness, midpoint=midpoint)
    levels = ladder(PROGRAMS, law)
    fits, _ = settle(levels, law, p95_ms=89.0)
    over, _ = settle(levels, law, 2.0, p95_ms=91.0)
    assert (fits.level, over.level) == (0, 1)


def test_alpha_falls_when_the_load_rises_and_the_input_scales_it():
    seen = [settle(LEVELS[:1], LAW, 1, p95_ms=p95)[0].activation for p95 in (1.0, 20.0, 49.5, 200.0)]
    assert seen == sorted(seen, reverse=True) and seen[2] == pytest.approx(0.5)
    quiet, _ = settle(LEVELS[:1], LAW, 1, p95_ms=20.0, activity=0.5)
    assert quiet.activation == pytest.approx(seen[1] / 2)


def test_overload_moves_at_once_to_the_level_that_fits_and_says_why():
    state, decisions = settle(LEVELS, LAW, 0.5, p95_ms=120.0, overhead_ms=3.0)
    assert LEVELS[state.level].program.name == "light"
    assert decisions[0].reason == "heavy -> light: p95 120 ms of 55 ms"


def test_a_single_measurement_a_little_over_the_budget_moves_nothing():
    state, _ = step(LEVELS, LAW, State(), Signals(0.0, p95_ms=54.0))
    assert state.level == 0
    state, decision = step(LEVELS, LAW, state, Signals(0.5, p95_ms=40.0))
    assert (state.level, decision.reason) == (0, "")


def test_heat_and_throttling_ask_for_less_work_and_a_stride_helps_there():
    law = Law(temperature_limit_c=75.0, max_stride=4)
    levels = ladder(PROGRAMS[:1], law)
    hot, decisions = settle(levels, law, 3.0, temperature_c=76.0)
    assert levels[hot.level].stride > 1 and "76 C of 75 C" in decisions[1].reason
    held_back, decisions = settle(levels, law, 3.0, throttled=True)
    assert levels[held_back.level].stride == 2 and "throttled" in decisions[1].reason


def test_a_stride_does_not_help_latency():
    law = Law(latency_budget_ms=10.0, max_stride=8)
    state, _ = settle(ladder(PROGRAMS[:1], law), law, 60.0, p95_ms=30.0)
    assert state.level == 0


def test_what_no_level_keeps_is_said_and_what_is_kept_is_not():
    law = Law(latency_budget_ms=10.0, temperature_limit_c=70.0, max_stride=4)
    levels = ladder(PROGRAMS[-1:], law)
    _, over = settle(levels, law, 3.0, p95_ms=11.0, temperature_c=40.0)
    assert {d.missed for d in over} == {"", "p95 11 ms of 10 ms"} and not any(d.reason for d in over)
    _, close = settle(levels, law, 3.0, p95_ms=9.5, temperature_c=40.0)
    assert not any(d.missed for d in close)


def test_limits_that_nothing_can_be_done_about_are_known_at_the_start():
    law = Law(latency_budget_ms=10.0, temperature_limit_c=70.0)
    one = ladder(PROGRAMS[:1], law)
    assert [text.split(":")[1] for text in shortcomings(one, law, has_sensor=True)] == [
        " no lighter variant to switch to", " nothing to switch to; a max_stride above 1 would allow it"
    ]  # fmt: skip
    assert "no temperature sensor" in shortcomings(one, law, has_sensor=False)[1]
    assert shortcomings(LEVELS, LAW, has_sensor=True) == ()


def test_frames_that_come_too_fast_are_load():
    law = Law(max_stride=4)
    levels = ladder(PROGRAMS[:1], law)
    state, _ = settle(levels, law, 3.0, busy=1.0, dropped=0.5)
    assert levels[state.level].stride == 4
    _, decisions = settle(levels, law, 3.0, busy=0.8, dropped=0.5)
    assert next(d.reason for d in decisions if d.reason).endswith("busy 80%, 50% of the frames dropped")


def test_a_better_level_comes_back_one_at_a_time_after_a_calm_time():
    state = State(level=2)
    state, decisions = settle(LEVELS, LAW, 30.0, state=state, p95_ms=lambda at: 0.9 * at.program.latency_ms)
    moves = [(i / 2, d.reason) for i, d in enumerate(decisions) if d.reason]
    assert [text for _, text in moves] == ["light -> middle: room again", "middle -> heavy: room again"]
    assert moves[0][0] >= LAW.dwell_s and moves[1][0] - moves[0][0] >= LAW.dwell_s


def test_a_level_that_could_not_be_kept_is_tried_less_and_less_often():
    # The light level looks as if the heavy one fitted; it never does.
    def p95_ms(level: Level) -> float:
        return 80.0 if level.program.name == "heavy" else 5.0

    levels = (LEVELS[0], LEVELS[2])
    state, decisions = settle(levels, LAW, 900.0, p95_ms=p95_ms)
    rises = [i / 2 for i, d in enumerate(decisions) if d.reason.endswith("room again")]
    waits = [b - a for a, b in itertools.pairwise(rises)]
    assert len(rises) <= 8 and waits == sorted(waits) and waits[-1] > 8 * waits[0] and state.level == 1


def test_a_cold_program_is_preloaded_and_entered_when_it_is_ready():
    heavy_only = frozenset({"heavy"})
    state, decisions = settle(LEVELS, LAW, 3.0, ready=heavy_only, p95_ms=120.0)
    assert state.level == 0 and {d.preload for d in decisions} == {"light"}
    state, decisions = settle(LEVELS, LAW, 1.0, state=state, start_s=3.0, ready=None, p95_ms=120.0)
    assert LEVELS[state.level].program.name == "light" and decisions[0].reason


def test_switching_never_takes_a_twentieth_of_the_time():
    state, now = State(), 0.0
    switches = []
    for _ in range(400):
        at = state.level
        state, _d = step(
            LEVELS, Law(latency_budget_ms=55.0, dwell_s=0.1), state, Signals(now, p95_ms=500.0 * (at < 2)), switch_s=1.0
        )
        switches += [now] * (state.level != at)
        now += 0.5
    assert all(b - a >= 20.0 for a, b in itertools.pairwise(switches))


def test_what_the_input_deserves_is_the_most_interesting_of_its_signs():
    law = Law(quiet=0.6)
    assert input_activity(law, motion=0.0, novelty=0.0, confidence=1.0) == pytest.approx(0.6)
    assert input_activity(law, motion=1.0, novelty=0.0, confidence=1.0) == pytest.approx(1.0)
    assert input_activity(law, motion=0.0, novelty=0.0, confidence=0.5) == pytest.approx(0.8)
    assert input_activity(law, motion=0.0, novelty=0.25, confidence=None) == pytest.approx(0.7)


SIGNALS = st.builds(
    Signals,
    time_s=st.just(0.0),
    p95_ms=st.none() | st.floats(0, 1e7),
    overhead_ms=st.floats(0, 1e4),
    busy=st.none() | st.floats(0, 2),
    dropped=st.floats(0, 1),
    temperature_c=st.none() | st.floats(-50, 200),
    throttled=st.booleans(),
    activity=st.floats(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIGNALS, st.floats(0.01, 20.0)), min_size=1, max_size=60), st.floats(0.5, 10.0))
def test_whatever_comes_one_switch_per_dwell_and_a_level_that_exists(steps, dwell_s):
    law = Law(latency_budget_ms=55.0, temperature_limit_c=75.0, max_stride=4, accuracy_floor=0.88, dwell_s=dwell_s)
    levels = ladder(PROGRAMS, law)
    state, now, switched_s = State(), 0.0, -math.inf
    for signals, later_s in steps:
        now += later_s
        before = state
        state, decision = step(levels, law, state, Signals(**{**vars(signals), "time_s": now}))
        assert 0 <= state.level < len(levels) and 0.0 <= state.activation <= 1.0
        assert (levels[state.level].program.metric or 0) >= 0.88
        assert bool(decision.reason) == (state.level != before.level)
        if decision.reason:
            assert now - switched_s >= dwell_s
            switched_s = now


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_on_a_loaded_board_the_budget_is_held_where_the_fixed_model_misses_it(scenario: Scenario):
    fixed, governed = run(scenario, governed=False), run(scenario)
    assert fixed.held <= 0.60
    assert governed.held >= 0.99
    assert governed.shortest_gap_s is None or governed.shortest_gap_s >= LAW.dwell_s
    assert governed.oscillations(within_s=10 * LAW.dwell_s) == 0
    assert (governed.metric or 0) > PROGRAMS[-1].metric  # not by giving up for good


def test_without_load_the_best_program_stays():
    trace = run(Scenario("idle", 120))
    assert set(trace.level) == {0} and trace.held == 1.0
