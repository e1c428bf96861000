"""From an Evaluation to the numbers that people, the gate and the bundle want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.bundle import Metrics
from edgeloop.bundle.manifest import metrics_to_dict
from edgeloop_converters.evaluate.metrics import (
    TOP_1,
    ClassScores,
    classification_scores,
    confusion_matrix,
    is_chance,
)
from edgeloop_converters.evaluate.run import Evaluation, Indices
from edgeloop_converters.evaluate.scorer import Scorer
from edgeloop_converters.evaluate.swapped import swapped_text

ACCURACY = "accuracy"
AGREEMENT = "agreement"
MAX_CONFUSION = 1001
"""Classes up to which a confusion matrix is kept."""
GUESSING = "no better than guessing"
_ENOUGH_TO_JUDGE = 50
"""Samples below which a good model may look like a guessing one."""


@dataclass(frozen=True)
class Quality:
    """One model's quality. scores, float_scores, confusion (int64 [classes, classes]) only with labels.

    others: of a model with several outputs, the mean agreement of each beside the contract's one, by name. guessing: a
    warning where it gets no more labels right than guessing would; else empty. reordered: see `Evaluation`. swapped: a
    warning where classes are answered as each other's.
    """

    metrics: Metrics
    agreement_kind: str
    scores: ClassScores | None = None
    float_scores: ClassScores | None = None
    confusion: npt.NDArray[np.int64] | None = None
    guessing: str = ""
    reordered: str = ""
    others: Mapping[str, float] = field(default_factory=dict)
    swapped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """`metrics` of a variant, as --json has it."""
        others = {"other_outputs": dict(self.others)} if self.others else {}
        return {**metrics_to_dict(self.metrics), "agreement_kind": self.agreement_kind, **others}


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
    labels, reordered = evaluation.labels, evaluation.reordered.get(name, "")
    if labels is None or evaluation.agreement_kind != TOP_1 or outcome.predictions is None:
        metrics = Metrics(AGREEMENT, None if reference is None else 1.0, agreement, agreement, n)
        return Quality(metrics, evaluation.agreement_kind, reordered=reordered, others=outcome.others)
    score = scorer.score if scorer is not None else classification_scores
    scores = score(labels, outcome.predictions)
    float_scores = float_predictions = None
    if reference is not None:
        float_predictions = evaluation.outcomes[reference].predictions
        if float_predictions is not None:
            float_scores = score(labels, float_predictions)
    metrics = Metrics(ACCURACY, float_scores.accuracy if float_scores else None, scores.accuracy, agreement, n)
    classes = evaluation.classes
    confusion = confusion_matrix(labels, outcome.predictions, classes) if classes <= MAX_CONFUSION else None
    guessing = ""
    if _guesses(labels, outcome.predictions, scores.accuracy, classes):
        float_guesses = (
            float_scores is None
            or float_predictions is None
            or _guesses(labels, float_predictions, float_scores.accuracy, classes)
        )
        constant = _is_constant(labels, outcome.predictions)
        guessing = _guessing_text(metrics, max(2, classes), float_guesses=float_guesses, constant=constant)
    swapped = "" if confusion is None or guessing else swapped_text(confusion, evaluation.class_names)
    return Quality(
        metrics,
        evaluation.agreement_kind,
        scores,
        float_scores,
        confusion,
        guessing,
        reordered,
        outcome.others,
        swapped,
    )


def _guesses(labels: Indices, predictions: Indices, accuracy: float, classes: int) -> bool:
    """As many right as by chance, or one and the same answer to samples of several classes."""
    if len(labels) < _ENOUGH_TO_JUDGE:
        return False
    return _is_constant(labels, predictions) or is_chance(accuracy, len(labels), max(2, classes))


def _is_constant(labels: Indices, predictions: Indices) -> bool:
    return len(np.unique(predictions)) == 1 and len(np.unique(labels)) > 1


def _guessing_text(metrics: Metrics, classes: int, *, float_guesses: bool, constant: bool) -> str:
    right = f"{metrics.this:.1%} of {metrics.n} samples right, {GUESSING} among {classes} classes"
    found = f"the exported model gets {right}"
    if constant:
        found = f"the exported model gives all samples the same answer: {right}"
    if not float_guesses:
        return (
            f"{found}, while the float model gets {metrics.float_:.1%}: the conversion spoils it, try another --scheme"
        )
    return f"{found}: check the scaling (--mean, --std, --color), the order of the labels, and the model itself"
