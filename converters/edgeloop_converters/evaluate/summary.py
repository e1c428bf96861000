"""From an Evaluation to the numbers that people, the gate and the bundle want."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeloop.bundle import Metrics
from edgeloop_converters.evaluate.metrics import TOP_1, ClassScores, classification_scores, confusion_matrix
from edgeloop_converters.evaluate.run import Evaluation
from edgeloop_converters.evaluate.scorer import Scorer

ACCURACY = "accuracy"
AGREEMENT = "agreement"
MAX_CONFUSION = 1001
"""Classes up to which a confusion matrix is kept."""


@dataclass(frozen=True)
class Quality:
    """One model's quality. scores, float_scores, confusion (int64 [classes, classes]) only with labels."""

    metrics: Metrics
    agreement_kind: str
    scores: ClassScores | None = None
    float_scores: ClassScores | None = None
    confusion: npt.NDArray[np.int64] | None = None


def summarize(evaluation: Evaluation, name: str, *, reference: str | None, scorer: Scorer | None = None) -> Quality:
    """Quality of model `name`. With labels of a classification the metric is accuracy, else agreement with `reference`.

    Agreement with itself is 1 by definition, which is what `float` says when agreement is the metric. scorer:
    scikit-learn in a process that was started before; None: here.
    """
    outcome = evaluation.outcomes[name]
    n = len(evaluation.indices)
    agreement = None if outcome.agreement is None else float(outcome.agreement.mean(dtype=np.float64))
    if name == reference:
        agreement = 1.0
    labels = evaluation.labels
    if labels is None or evaluation.agreement_kind != TOP_1 or outcome.predictions is None:
        metrics = Metrics(AGREEMENT, None if reference is None else 1.0, agreement, agreement, n)
        return Quality(metrics, evaluation.agreement_kind)
    score = scorer.score if scorer is not None else classification_scores
    scores = score(labels, outcome.predictions)
    float_scores = None
    if reference is not None:
        float_predictions = evaluation.outcomes[reference].predictions
        if float_predictions is not None:
            float_scores = score(labels, float_predictions)
    metrics = Metrics(ACCURACY, float_scores.accuracy if float_scores else None, scores.accuracy, agreement, n)
    classes = evaluation.classes
    confusion = confusion_matrix(labels, outcome.predictions, classes) if classes <= MAX_CONFUSION else None
    return Quality(metrics, evaluation.agreement_kind, scores, float_scores, confusion)
