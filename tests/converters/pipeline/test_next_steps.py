"""What is said after a goal on the answers was missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop.bundle import Metrics
from edgeloop_converters.goals import Goals
from edgeloop_converters.next_steps import next_steps, too_fine
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes

METRICS = Metrics("accuracy", 0.751, 0.7441, 0.9667, 1000)


def recipe(scheme: str = "int8", effort: str = "default", **goals: float) -> Recipe:
    passes = plan_passes(scheme, "aeq", effort)
    return Recipe("m.tflite", data="train", goals=Goals(**goals), effort=effort, passes=passes)


def test_a_missed_goal_names_what_to_try_and_what_would_be_met() -> None:
    steps = next_steps(recipe(max_drop=0.005, min_agreement=0.99), METRICS)
    assert [step.split(" ")[0] for step in steps] == ["--effort", "--calibration-samples", "--scheme", "--max-drop"]
    assert steps[-1] == "--max-drop 0.7pt --min-agreement 0.966: what this file reaches"
    assert "--scheme weight-only" in steps[2]


def test_a_scheme_is_suggested_where_the_board_takes_it_and_with_its_cost() -> None:
    coral = replace(recipe(min_agreement=0.99), target="coral-usb")
    assert not any("weight-only" in step for step in next_steps(coral, METRICS))
    assert any(step.endswith("at int8's speed") for step in next_steps(recipe("int4", min_agreement=0.99), METRICS))


def test_what_was_done_already_is_not_suggested() -> None:
    steps = next_steps(recipe("weight-only", "best", min_agreement=0.99), METRICS)
    assert steps == ("--min-agreement 0.966: what this file reaches",)
    off = next_steps(replace(recipe("weight-only", "best", min_agreement=0.99), repair=False), METRICS)
    assert off[0] == "without --no-repair"


def test_met_goals_say_nothing() -> None:
    assert next_steps(recipe(max_drop=0.01), METRICS) == ()
    assert next_steps(recipe(max_bytes=100), METRICS, model_bytes=100) == ()


def test_a_file_that_is_too_large_names_a_smaller_scheme_where_the_board_takes_one() -> None:
    large = recipe(max_bytes=10)
    assert next_steps(large, METRICS, model_bytes=100) == (
        "--scheme int4: smaller, but slower",
        "--optimize size: looks for a smaller model that answers as well",
        "--max-bytes 100: what this file has",
    )
    coral = replace(large, target="coral-usb")
    assert not any("int4" in step for step in next_steps(coral, METRICS, model_bytes=100))
    tried = replace(coral, optimize="size")
    assert next_steps(tried, METRICS, model_bytes=100) == ("--max-bytes 100: what this file has",)
    assert (
        next_steps(recipe("float", max_bytes=10), METRICS, model_bytes=100)[0] == "--scheme int8: smaller, and faster"
    )


def test_a_latency_that_was_judged_and_missed_names_what_costs() -> None:
    slow = recipe(p95_ms=5)
    assert next_steps(slow, METRICS, p95_ms=7.1234) == (
        "--optimize latency: looks for a smaller model that answers as well",
        "edgeloop analyze m.tflite --target rpi4: which ops cost most",
        "--p95-ms 7.124: what this file reaches",
    )
    assert next_steps(slow, METRICS, p95_ms=None) == next_steps(slow, METRICS, p95_ms=4.9) == ()
    assert next_steps(recipe("fp16", p95_ms=5), METRICS, p95_ms=7)[0] == "--scheme int8: faster"


def test_a_model_that_guesses_is_not_to_be_tuned() -> None:
    (step,) = next_steps(recipe(max_drop=0.001), METRICS, guesses=True)
    assert step.startswith("edgeloop check-data m.tflite --data train")


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        ({"max_drop": 0.0001}, "a drop of 0.01 pt cannot be judged on 1000 samples: one is 0.1 pt"),
        ({"min_agreement": 0.9999}, "an agreement of 0.9999 cannot be judged on 1000 samples: one is 0.1 pt"),
        ({"min_agreement": 0.999}, ""),
        ({"max_drop": 0.001}, ""),
        ({"max_drop": 0.0}, ""),
        ({"min_agreement": 1.0}, ""),
    ],
)
def test_a_goal_finer_than_one_sample_is_said(goals: dict[str, float], said: str) -> None:
    assert too_fine(Goals(**goals), METRICS) == said
