"""Metrics and agreement against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeloop.contract import OutputSpec
from edgeloop.decoding import AnomalySettings
from edgeloop.runtime import RanOn
from edgeloop_converters.assistant import Assistant
from edgeloop_converters.evaluate import Scorer, classification_scores, confusion_matrix, summarize
from edgeloop_converters.evaluate.metrics import COSINE, RELATIVE, agreement_kind, output_agreement
from edgeloop_converters.evaluate.per_op import MAX_SNR_DB, snr_db
from edgeloop_converters.evaluate.run import Evaluation, Outcome

RAN = RanOn("xnnpack", "xnnpack", 1, 1, "test")
LABELS = np.array([0, 0, 1, 1, 2, 2])
GUESSES = np.array([0, 1, 1, 1, 2, 0])


def test_macro_scores_by_hand() -> None:
    scores = classification_scores(LABELS, GUESSES)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.precision == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert scores.recall == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert scores.f1 == pytest.approx((0.5 + 0.8 + 2 / 3) / 3)


def test_confusion_rows_are_the_true_class() -> None:
    assert confusion_matrix(LABELS, GUESSES, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_agreement_follows_the_output_kind() -> None:
    kinds = [agreement_kind(OutputSpec(kind)) for kind in ("classification", "embedding", "raw", "anomaly")]
    assert kinds == ["top-1", COSINE, RELATIVE, RELATIVE]
    assert agreement_kind(OutputSpec("anomaly", settings=AnomalySettings(threshold=1.0))) == "same verdict"
    one, two = np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]])
    assert output_agreement(COSINE, [one], [two]) == pytest.approx(1.0)
    assert output_agreement(RELATIVE, [one], [two]) == 0.0
    assert output_agreement(RELATIVE, [one], [one * 1.1]) == pytest.approx(0.9)
    zero = np.zeros((1, 2))
    assert output_agreement(COSINE, [zero], [zero]) == 1.0
    assert output_agreement(COSINE, [one], [zero]) == 0.0
    assert output_agreement(RELATIVE, [zero], [one]) == 0.0
    assert output_agreement(RELATIVE, [one], [np.zeros((1, 3))]) == 0.0


def evaluation(labels: np.ndarray | None) -> Evaluation:
    same = (GUESSES == LABELS).astype(np.float32)
    scores = np.ones(6, np.float32)
    outcomes = {"float": Outcome(RAN, LABELS, scores), "int8": Outcome(RAN, GUESSES, scores, same)}
    return Evaluation(np.arange(6), labels, "top-1", outcomes, 3)


@pytest.mark.parametrize(
    ("float_right", "right", "says"),
    [(10, 10, "check the scaling"), (90, 10, "the conversion spoils it"), (90, 80, ""), (10, 40, "")],
)
def test_a_result_that_is_no_better_than_guessing_is_said(float_right: int, right: int, says: str) -> None:
    labels = np.arange(100) % 10

    def outcome(count: int) -> Outcome:
        return Outcome(RAN, np.where(np.arange(100) < count, labels, (labels + 1) % 10), np.ones(100, np.float32))

    outcomes = {"float": outcome(float_right), "int8": outcome(right)}
    quality = summarize(Evaluation(np.arange(100), labels, "top-1", outcomes, 10), "int8", reference="float")
    assert says in quality.guessing
    assert bool(quality.guessing) == bool(says)


def test_one_answer_to_everything_is_guessing_however_often_it_is_right() -> None:
    labels = np.r_[np.zeros(90, int), np.ones(10, int)]
    outcomes = {"a": Outcome(RAN, np.zeros(100, int), np.ones(100, np.float32))}
    text = summarize(Evaluation(np.arange(100), labels, "top-1", outcomes, 2), "a", reference=None).guessing
    assert text.startswith("the exported model gives all samples the same answer: 90.0% of 100 samples right")
    few = Evaluation(np.arange(10), labels[85:95], "top-1", {"a": Outcome(RAN, np.zeros(10, int))}, 2)
    assert summarize(few, "a", reference=None).guessing == ""


def test_a_conversion_that_changes_no_answer_spoils_nothing() -> None:
    labels = np.r_[np.zeros(60, int), np.arange(40) % 3 + 1]
    same = Outcome(RAN, np.zeros(100, int), np.ones(100, np.float32))
    found = Evaluation(np.arange(100), labels, "top-1", {"float": same, "int8": same}, 4)
    text = summarize(found, "int8", reference="float").guessing
    assert "60.0%" in text and "the model itself" in text and "spoils" not in text


def test_with_labels_the_metric_is_accuracy() -> None:
    quality = summarize(evaluation(LABELS), "int8", reference="float")
    assert quality.metrics.metric == "accuracy"
    assert (quality.metrics.float_, quality.metrics.n) == (1.0, 6)
    assert quality.metrics.this == pytest.approx(4 / 6)
    assert quality.metrics.agreement == pytest.approx(4 / 6)
    assert quality.confusion is not None
    assert quality.confusion.sum() == 6


def test_without_labels_the_metric_is_agreement() -> None:
    metrics = summarize(evaluation(None), "int8", reference="float").metrics
    assert (metrics.metric, metrics.float_) == ("agreement", 1.0)
    assert metrics.this == metrics.agreement == pytest.approx(4 / 6)


def test_without_a_reference_agreement_is_not_made_up() -> None:
    both = evaluation(LABELS)
    alone = Evaluation(both.indices, LABELS, "top-1", {"int8": Outcome(RAN, GUESSES, None, None)}, 3)
    metrics = summarize(alone, "int8", reference=None).metrics
    assert (metrics.float_, metrics.agreement) == (None, None)
    assert metrics.this == pytest.approx(4 / 6)


def test_snr_of_equal_and_of_silent_tensors_is_a_number() -> None:
    assert snr_db(1.0, 0.0) == MAX_SNR_DB
    assert snr_db(0.0, 1.0) == -MAX_SNR_DB
    assert snr_db(100.0, 1.0) == pytest.approx(20.0)


def test_scores_from_the_other_process_are_the_same_and_survive_its_death() -> None:
    with Assistant() as assistant:
        scorer = Scorer(assistant)
        here = classification_scores(LABELS, GUESSES)
        assert scorer.score(LABELS, GUESSES) == here
        assert assistant._process is not None
        assistant._process.kill()
        assistant._process.wait()
        assert scorer.score(LABELS, GUESSES) == here


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [COSINE, RELATIVE])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_agree_with_nothing(kind: str, value: float) -> None:
    broken, whole = [np.array([value, 1], np.float32)], [np.ones(2, np.float32)]
    assert [output_agreement(kind, *pair) for pair in ((broken, broken), (broken, whole), (whole, broken))] == [0, 0, 0]
