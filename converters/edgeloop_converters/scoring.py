"""scikit-learn in a process of its own, started and asked by `edgeloop_converters.evaluate.scorer`.

Line by line until stdin ends: {"labels": [...], "predictions": [...]} in, [accuracy, precision, recall, f1] out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence


def score(labels: Sequence[int], predictions: Sequence[int]) -> list[float]:
    """[accuracy, precision, recall, f1]; the last three are means over the classes that occur (macro)."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0.0)
    return [float(accuracy_score(labels, predictions)), float(precision), float(recall), float(f1)]


def main() -> None:
    import sklearn.metrics  # noqa: F401  before the first question, while the parent is busy

    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(score(question["labels"], question["predictions"])), flush=True)
