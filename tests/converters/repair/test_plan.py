"""The ladder's decisions, as pure functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeloop_converters.calibration import calibrate
from edgeloop_converters.goals import Goals
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.repair.plan import (
    BUDGETS,
    Aim,
    Situation,
    cost_of,
    is_worth_keeping,
    may_move,
    meets,
    plan_rungs,
    units_of,
    why_no_repair,
    worth,
)
from edgeloop_converters.repair.records import BIAS, EQUALIZATION, FLOAT_OPS, RANGES, ROUNDING, RUNGS, Score
from edgeloop_converters.repair.samples import choose
from edgeloop_converters.repair.trials import Exhibit
from edgeloop_converters.schemes import scheme_named
from support.tiny_models import tiny_residual

INT8 = Situation(scheme_named("int8"), "aeq", False, 200)


def score(agreement: float, error: float = 0.0, n: int = 500, accuracy: float | None = None) -> Score:
    return Score(n, agreement, error, accuracy, None if accuracy is None else 0.9)


@pytest.fixture(scope="module")
def exhibit() -> Exhibit:
    """conv, conv, conv, add, mean, dense, softmax."""
    model = tiny_residual()
    x = [np.random.default_rng(i).random((1, 8, 8, 3), np.float32) for i in range(20)]
    return Exhibit.of(quantize_int8(model, calibrate(model, x)).tflite, model, keep_io=False)


def test_rungs_come_in_order_and_are_left_out_with_a_reason() -> None:
    assert list(plan_rungs(INT8)) == list(RUNGS) == [EQUALIZATION, RANGES, BIAS, ROUNDING, FLOAT_OPS]
    assert not any(plan_rungs(INT8).values())
    refined = plan_rungs(replace(INT8, done=frozenset({"weight rounding"})))
    assert "has tried it" in refined[ROUNDING] and not refined[RANGES]
    compact = plan_rungs(replace(INT8, scheme=scheme_named("int8-compact")))
    assert all(compact[rung] for rung in (RANGES, BIAS, ROUNDING)) and not compact[FLOAT_OPS]


def test_what_cannot_be_repaired_says_why() -> None:
    assert why_no_repair(INT8) == ""
    assert "float model itself" in why_no_repair(replace(INT8, scheme=scheme_named("float")))
    assert "no int8 ops" in why_no_repair(replace(INT8, scheme=scheme_named("dynamic")))
    assert "--engine tflite" in why_no_repair(replace(INT8, engine="tflite"))
    assert "19 calibration samples are too few" in why_no_repair(replace(INT8, samples=19))


def test_every_op_is_tried_alone_and_with_those_that_read_it(exhibit: Exhibit) -> None:
    units = [set(u.ops) for u in units_of(exhibit.graph, exhibit.twins, tail_only=False, macs=exhibit.macs)]
    assert [{i} for i in range(7)] == units[:7]
    assert {0, 1, 3} in units  # the trunk is read by a convolution and by the ADD
    assert any(len(u) > 3 for u in units)
    assert len({frozenset(u) for u in units}) == len(units)


def test_for_an_edge_tpu_only_ends_of_the_model_are_tried(exhibit: Exhibit) -> None:
    units = units_of(exhibit.graph, exhibit.twins, tail_only=True, macs=exhibit.macs)
    assert [set(u.ops) for u in units] == [{6}, {5, 6}, {4, 5, 6}, {3, 4, 5, 6}]  # a convolution is too much work


def test_the_gain_counts_by_what_it_costs(exhibit: Exhibit) -> None:
    before, after = score(0.9, 0.01), score(0.95, 0.005)
    cheap, dear = cost_of([6], exhibit.macs), cost_of([1], exhibit.macs)
    assert worth(before, after, cheap) > worth(before, after, dear) > 0
    assert worth(before, before, cheap) == 0
    assert may_move([6], exhibit.macs)
    assert not may_move(exhibit.twins, exhibit.macs)


def test_flips_counted_on_few_samples_weigh_less_than_the_error() -> None:
    lucky, near = score(1.0, 0.001, n=32), score(0.97, 0.0001, n=32)
    assert near.loss < lucky.loss
    assert score(1.0, 0.001, n=5000).loss < score(0.97, 0.0001, n=5000).loss
    ties = score(0.1, 1e-6, n=32)
    assert score(1.0, 1e-6, n=32).loss < 0.1 * ties.loss


def test_goals_hold_by_a_margin_that_shrinks_with_the_samples() -> None:
    goals = Goals(min_agreement=0.97)
    assert meets(goals, score(0.972), margin=False)
    assert not meets(goals, score(0.972), margin=True)
    assert meets(goals, score(0.99, n=500), margin=True)
    assert not meets(goals, score(0.99, n=50), margin=True)
    drop = Goals(max_drop=0.01)
    assert meets(drop, score(0.98, accuracy=0.893), margin=False)
    assert not meets(drop, score(0.98, accuracy=0.893), margin=True)
    assert meets(drop, score(1.0, accuracy=0.9), margin=True)


def test_a_base_that_meets_the_goals_here_flatters_and_must_be_halved() -> None:
    aim = Aim(Goals(min_agreement=0.9), score(0.98, 0.0004))
    assert not aim.is_reached(score(0.98, 0.0004))
    assert not aim.is_reached(score(0.985, 0.0003))
    assert aim.is_reached(score(0.99, 0.0002))


def test_few_flips_counted_by_luck_do_not_reach_the_aim() -> None:
    aim = Aim(Goals(min_agreement=0.99), score(0.96, 0.001))
    assert not aim.is_reached(score(1.0, 0.0009))
    assert aim.is_reached(score(1.0, 0.00001))


def test_flips_that_are_no_error_of_the_outputs_are_taken_as_counted() -> None:
    ties = score(0.3, 1e-6)  # a softmax whose codes are all equal
    assert Aim(Goals(min_agreement=0.97), ties).is_reached(score(1.0, 1e-6))


def test_a_rung_stays_only_where_it_gains_what_it_costs() -> None:
    before = score(0.9, 0.01)
    assert is_worth_keeping(before, score(0.905, 0.01), free=True)
    assert not is_worth_keeping(before, score(0.905, 0.01), free=False)
    assert is_worth_keeping(before, score(0.95, 0.005), free=False)
    assert not is_worth_keeping(score(1.0), score(1.0), free=True)


def test_samples_that_choose_are_not_those_that_fit() -> None:
    calibration, spare = np.arange(100), np.arange(100, 400)
    apart = choose(calibration, spare, BUDGETS["default"], 0)
    assert apart.unseen and set(apart.validation) == set(spare)
    assert set(apart.fit) == set(calibration)
    shared = choose(calibration, np.arange(0), BUDGETS["default"], 0)
    assert not shared.unseen and len(shared.validation) == 33
    assert not set(shared.fit) & set(shared.validation)
    assert set(shared.fit) | set(shared.validation) == set(calibration)


def test_large_models_are_tried_on_fewer_samples_and_never_on_none() -> None:
    budget = BUDGETS["default"]
    assert budget.trial_samples_of(41, 12_500_000) == 64  # ResNet8
    assert budget.trial_samples_of(146, 300_000_000) == 9  # MobileNetV2
    assert budget.trial_samples_of(200, 15_000_000_000) == 8
    assert budget.trial_samples_of(1, 0) == 64


def test_any_part_of_the_samples_that_choose_is_a_fair_one() -> None:
    """Folders come sorted by class, and large pictures do not all fit in memory."""
    for spare in (np.arange(100, 400), np.arange(0)):
        validation = choose(np.arange(100), spare, BUDGETS["default"], 0).validation
        assert not np.array_equal(validation, np.sort(validation))
