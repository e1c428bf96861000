"""Scores of a classification by scikit-learn, in whichever process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def score(labels: Sequence[int], predictions: Sequence[int]) -> list[float]:
    """[accuracy, precision, recall, f1]; the last three are means over the classes that occur (macro)."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0.0)
    return [float(accuracy_score(labels, predictions)), float(precision), float(recall), float(f1)]


def warm() -> None:
    """Import scikit-learn's metrics: 0.7 s, of which SciPy's statistics are most."""
    import sklearn.metrics  # noqa: F401


def answer(question: Mapping[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The duty "score" of `assistant`."""
    return {"scores": score(question["labels"], question["predictions"])}, b""
