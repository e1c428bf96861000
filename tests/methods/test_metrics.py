"""Accuracy, precision, recall and F1; agreement; the error of a tensor in decibels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop_converters.evaluate import classification_scores, confusion_matrix
from edgeloop_converters.evaluate.metrics import COSINE, RELATIVE, output_agreement
from edgeloop_converters.evaluate.per_op import snr_db

CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)


@given(PAIRS)
def test_scores_are_those_of_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    """accuracy = right / all; precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 P R / (P + R), each the mean
    over the classes that occur among labels or answers; 0 / 0 counts as 0.
    """
    labels, answers = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    matrix = confusion_matrix(labels, answers, CLASSES)
    right, said, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    occurs = (said + true) > 0
    precision = np.divide(right, said, out=np.zeros(CLASSES), where=said > 0)[occurs]
    recall = np.divide(right, true, out=np.zeros(CLASSES), where=true > 0)[occurs]
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(both)), where=both > 0)
    scores = classification_scores(labels, answers)
    assert scores.accuracy == pytest.approx(right.sum() / matrix.sum())
    assert scores.precision == pytest.approx(precision.mean())
    assert scores.recall == pytest.approx(recall.mean())
    assert scores.f1 == pytest.approx(f1.mean())


def test_agreement_is_cosine_similarity_or_one_minus_the_relative_error() -> None:
    one, other = np.array([3.0, 4.0]), np.array([4.0, 3.0])
    assert output_agreement(COSINE, [one], [other]) == pytest.approx(24 / 25)
    assert output_agreement(RELATIVE, [one], [other]) == pytest.approx(1 - np.sqrt(2) / 5)


def test_the_signal_to_noise_ratio_is_ten_times_the_decadic_logarithm() -> None:
    assert snr_db(1000.0, 1.0) == pytest.approx(30.0)
    signal = np.random.default_rng(0).uniform(-1, 1, 100_000)
    step = 2 / 255
    noise = np.round(signal / step) * step - signal
    # A full-scale uniform signal in n bits: 20 log10(2^n) = 6.02 n dB.
    assert snr_db(float(np.square(signal).sum()), float(np.square(noise).sum())) == pytest.approx(6.02 * 8, abs=0.1)
