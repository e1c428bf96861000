"""What is told without a goal: a loss beyond doubt, layers in float, a slow scheme."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop.bundle import Metrics
from edgeloop.targets import load_target
from edgeloop_converters.alarms import quality_alarms, scheme_alarms
from edgeloop_converters.evaluate import Quality
from edgeloop_converters.goals import Goals


def quality(float_: float | None, this: float, agreement: float, n: int = 1000, kind: str = "top-1") -> Quality:
    metric = "accuracy" if kind == "labels" else "agreement"
    return Quality(Metrics(metric, float_, this, agreement, n), "top-1" if kind == "labels" else kind)


def test_a_loss_of_accuracy_is_told_with_its_numbers() -> None:
    (text,) = quality_alarms(quality(0.80, 0.70, 0.85, kind="labels"), Goals(), "int8")
    assert "loses 10.0 pt of accuracy (80.0% to 70.0%, 1000 samples)" in text and "--max-drop" in text


@pytest.mark.parametrize("drop, n", [(0.015, 1000), (0.03, 60), (-0.05, 1000)])
def test_what_the_draw_may_have_made_is_not_told(drop: float, n: int) -> None:
    """Of 60 samples with 90 % agreement, 3 points are less than two standard errors."""
    assert quality_alarms(quality(0.80, 0.80 - drop, 0.90, n, "labels"), Goals(), "int8") == ()


def test_a_goal_is_judged_by_the_gate_and_not_told_twice() -> None:
    assert quality_alarms(quality(0.80, 0.70, 0.90, kind="labels"), Goals(max_drop=0.2), "int8") == ()
    assert quality_alarms(quality(1.0, 0.5, 0.5), Goals(min_agreement=0.4), "int8") == ()


@pytest.mark.parametrize("kind, low, fine", [("top-1", 0.85, 0.93), ("cosine", 0.90, 0.99), ("relative", 0.8, 0.95)])
def test_without_labels_agreement_tells(kind: str, low: float, fine: float) -> None:
    (text,) = quality_alarms(quality(1.0, low, low, kind=kind), Goals(), "int8")
    assert "agrees with the float model on" in text and "--min-agreement" in text
    assert quality_alarms(quality(1.0, fine, fine, kind=kind), Goals(), "int8") == ()
    assert quality_alarms(quality(1.0, low, low, n=10, kind=kind), Goals(), "int8") == ()


@pytest.mark.parametrize("guessing", ["", "no better than guessing"])
def test_with_labels_a_low_agreement_tells_as_well(guessing: str) -> None:
    """As many right as before, but other ones."""
    changed = replace(quality(0.20, 0.20, 0.40, kind="labels"), guessing=guessing)
    (text,) = quality_alarms(changed, Goals(max_drop=0.01), "int8")
    assert "agrees with the float model on 40.0% only" in text
    assert quality_alarms(changed, Goals(max_drop=0.01, min_agreement=0.3), "int8") == ()


def test_an_output_that_no_goal_judges_is_told() -> None:
    several = replace(quality(1.0, 1.0, 1.0), others={"boxes": 0.945, "wide": 0.0, "odd": float("nan")})
    wide, odd = quality_alarms(several, Goals(min_agreement=0.9), "int8")
    assert "'wide'" in wide and "0.0% only" in wide and "the contract's output alone" in wide
    assert "'odd'" in odd


def test_layers_in_float_and_slow_schemes_are_told() -> None:
    target = load_target("rpi4")
    (text,) = scheme_alarms("int8", target, ("ELU", "ELU", "EMBEDDING_LOOKUP"))
    assert "stayed float in the int8 model: 2 ELU;" in text
    assert scheme_alarms("int8", target, ("EMBEDDING_LOOKUP",)) == ()
    assert "times int8's latency" in scheme_alarms("a16w8", target, ())[0]
    assert scheme_alarms("float", target, ("CONV_2D",)) == ()
