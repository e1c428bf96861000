"""Task metrics and agreement, as numbers. Nothing here runs a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import OutputSpec
from edgeloop.decoding import AnomalySettings
from edgeloop.errors import MissingExtraError
from edgeloop.postprocess import Result
from edgeloop.postprocess.agreement import decided_alike

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]

TOP_1 = "top-1"
COSINE = "cosine"
RELATIVE = "1 - relative error"
VERDICT = "same verdict"
_AGREEMENT = {
    "classification": TOP_1,
    "embedding": COSINE,
    "detection": "F1 of boxes at IoU 0.5",
    "segmentation": "mean IoU of masks",
    "keypoints": "keypoints within 10% of the body",
}


@dataclass(frozen=True)
class ClassScores:
    """accuracy; precision, recall and F1 as the mean over the classes that occur (macro). Fractions 0..1."""

    accuracy: float
    precision: float
    recall: float
    f1: float

    def to_dict(self) -> dict[str, float]:
        return dict(vars(self))


def classification_scores(labels: Ids, predictions: Ids) -> ClassScores:
    """labels, predictions: class ids [n], n >= 1. Raises MissingExtraError without scikit-learn."""
    from edgeloop_converters.scoring import score

    try:
        return ClassScores(*score(labels.tolist(), predictions.tolist()))
    except ImportError as error:
        raise MissingExtraError("evaluation", "convert") from error


def is_chance(accuracy: float, samples: int, classes: int) -> bool:
    """Whether a model that guesses among `classes` gets as many of `samples` right: within two standard errors of 1 /
    classes, or below."""
    chance = 1 / classes
    return accuracy < chance + 2 * math.sqrt(chance * (1 - chance) / samples)


def confusion_matrix(labels: Ids, predictions: Ids, classes: int) -> npt.NDArray[np.int64]:
    """int64 [classes, classes]: rows are the true class, columns the predicted one."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def agreement_kind(output: OutputSpec) -> str:
    """How agreement with the float model is measured for a contract's output."""
    if isinstance(output.settings, AnomalySettings) and output.settings.threshold is not None:
        return VERDICT
    return _AGREEMENT.get(output.kind, RELATIVE)


def result_agreement(kind: str, index: int, reference: Result, other: Result) -> float:
    """Agreement of one sample, 0..1: what the two results decide, else their numbers. kind: see `agreement_kind`."""
    if kind not in (RELATIVE, COSINE):
        decided = decided_alike(reference, other)
        return 0.0 if decided is None else decided
    return output_agreement(kind, [_numbers(reference, index)], [_numbers(other, index)])


def _numbers(result: Result, index: int) -> Array:
    if result.anomaly is not None:
        return np.asarray([result.anomaly.score])
    return result.values[index if result.kind == "raw" else 0]  # an embedding comes first


def output_agreement(kind: str, reference: Sequence[Array], other: Sequence[Array]) -> float:
    """Agreement of one sample's raw outputs (float32, any shapes) with the reference's, 0..1; 1 is equal.

    COSINE: cosine similarity, floored at 0. RELATIVE: 1 - |other - reference| / |reference| (L2), floored at 0. NaN and
    infinity agree with nothing.
    """
    a = np.concatenate([np.ravel(x).astype(np.float64) for x in reference])
    b = np.concatenate([np.ravel(x).astype(np.float64) for x in other])
    if a.shape != b.shape:  # outputs of a size that depends on the input
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        if norm_a == 0 or (norm_b == 0 and kind == COSINE):
            return 1.0 if norm_a == norm_b else 0.0
        if kind == COSINE:
            return max(0.0, float(a @ b) / (norm_a * norm_b))
        return max(0.0, 1.0 - float(np.linalg.norm(b - a)) / norm_a)
