"""Goals are parsed without ambiguity and the gate says why it did not pass."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop_converters.gate import Measurement, check_goals_fit, joined, judge
from edgeloop_converters.goals import Goals, parse_agreement, parse_bytes, parse_drop


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("0.5pt", 0.005), ("0.005", 0.005), ("1 pt", 0.01), ("0", 0.0), ("0.49", 0.49), (".2pt", 0.002)],
)
def test_a_drop_is_points_or_a_fraction(text: str, fraction: float) -> None:
    assert parse_drop(text) == pytest.approx(fraction)


@pytest.mark.parametrize("text", ["0.5", "1", "2", "50"])
def test_a_bare_number_from_one_half_is_refused_as_ambiguous(text: str) -> None:
    with pytest.raises(UsageError, match="ambiguous") as caught:
        parse_drop(text)
    assert f"{text}pt" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "pt", "-0.1", "-1pt", "nan", "inf", "0.5%", "half", "101pt", "1_0pt"])
def test_what_is_not_a_drop_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_drop(text)


@given(st.text(max_size=20))
def test_any_text_gives_a_fraction_or_a_usage_error(text: str) -> None:
    for parse in (parse_drop, parse_agreement):
        with suppress(UsageError):
            assert 0 <= parse(text) <= 1
    with suppress(UsageError):
        assert parse_bytes(text) >= 0


def test_of_several_variants_all_must_pass_and_each_reason_names_its_variant() -> None:
    goals = Goals(min_agreement=0.9, p95_ms=5)
    good, bad = (judge(goals, Measurement("agreement", 1.0, a, a, 50, 1000)) for a in (0.95, 0.5))
    assert joined({"int8-16": good}) is good
    both = joined({"int8-16": good, "int8-32": bad})
    assert not both.passed
    assert [reason.split(":")[0] for reason in both.reasons] == ["int8-32"]
    assert len(both.unverified) == 1
    assert joined({"int8-16": good, "int8-32": good}).passed


def test_python_goals_are_checked_like_the_flags() -> None:
    assert Goals(max_drop=0.005, p95_ms=20).to_dict() == {"max_drop": 0.005, "p95_ms": 20}
    for wrong in ({"max_drop": 0.5}, {"min_agreement": 96}, {"p95_ms": 0}, {"max_bytes": 0}, {"max_drop": True}):
        with pytest.raises(UsageError):
            Goals(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'max_loss' is not known"):
        Goals.from_dict({"max_loss": 1})


def measurement(**changes: object) -> Measurement:
    values: dict[str, object] = {
        "metric_name": "accuracy", "float_metric": 0.755, "metric": 0.750, "agreement": 0.965, "samples": 1000,
        "bytes": 95_000,
    }  # fmt: skip
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


def test_no_goals_always_pass() -> None:
    assert judge(Goals(), measurement(metric=0.1)).passed


def test_a_drop_of_exactly_the_goal_passes() -> None:
    assert judge(Goals(max_drop=0.005), measurement()).passed
    assert judge(Goals(max_drop=0.0), measurement(metric=0.76)).passed


def test_every_missed_goal_is_named() -> None:
    gate = judge(Goals(max_drop=0.004, min_agreement=0.97, max_bytes=90_000, p95_ms=5), measurement(p95_ms=6.5))
    assert not gate.passed
    assert len(gate.reasons) == 4
    assert "0.50 pt" in gate.reasons[0]
    assert "96.50%" in gate.reasons[1]


def test_an_accuracy_goal_that_could_not_be_measured_is_missed() -> None:
    assert not judge(Goals(min_agreement=0.9), measurement(agreement=None)).passed
    assert not judge(Goals(max_drop=0.1), measurement(float_metric=None)).passed


def test_a_latency_goal_without_a_measurement_on_the_target_is_unverified_not_passed_silently() -> None:
    gate = judge(Goals(p95_ms=20), measurement())
    assert gate.passed
    assert gate.unverified == ("p95 <= 20 ms: not measured on the target",)


def test_the_verdict_says_what_was_not_judged() -> None:
    assert judge(Goals(max_drop=0.01, p95_ms=20), measurement()).verdict == "met where judged; p95 not judged"
    assert judge(Goals(p95_ms=20), measurement()).verdict == "not judged: p95"
    assert judge(Goals(max_drop=0.01, p95_ms=20), measurement(p95_ms=2)).verdict == "met"
    assert judge(Goals(max_drop=0.001, p95_ms=20), measurement()).verdict == "NOT met"
    assert judge(Goals(), measurement()).to_dict()["verdict"] == "no goals were set"


def test_a_goal_met_by_guessing_is_not_plainly_met() -> None:
    gate = judge(Goals(max_drop=0.01), measurement(float_metric=0.1, metric=0.1, guesses=True))
    assert gate.passed
    assert gate.verdict == "met, but the model does no better than guessing"
    assert gate.to_dict()["guesses"] is True


def test_max_drop_without_labels_is_wrong_use_and_names_the_way_on() -> None:
    with pytest.raises(UsageError, match="needs labels") as caught:
        check_goals_fit(Goals(max_drop=0.01), has_labels=False)
    assert "--min-agreement" in str(caught.value.hint)
    check_goals_fit(Goals(max_drop=0.01), has_labels=True)
    check_goals_fit(Goals(min_agreement=0.9), has_labels=False)
