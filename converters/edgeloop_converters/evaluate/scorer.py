"""Scores by scikit-learn without waiting for its import (0.7 s of pure Python, which a thread would take from ours)."""

from __future__ import annotations

import importlib.util

from edgeloop.errors import MissingExtraError
from edgeloop_converters.assistant import Assistant, Crashed
from edgeloop_converters.evaluate.metrics import ClassScores, Ids, classification_scores


class Scorer:
    """Scores in the assistant's process, which imports from now on; where that does not answer, here.

    Raises MissingExtraError without scikit-learn.
    """

    def __init__(self, assistant: Assistant) -> None:
        if importlib.util.find_spec("sklearn") is None:
            raise MissingExtraError("evaluation", "convert")
        self._assistant = assistant
        assistant.expect("score")

    def score(self, labels: Ids, predictions: Ids) -> ClassScores:
        """labels, predictions: class ids [n], n >= 1."""
        question = {"labels": labels.tolist(), "predictions": predictions.tolist()}
        try:
            answer, _ = self._assistant.ask("score", question)
        except Crashed:
            return classification_scores(labels, predictions)
        return ClassScores(*answer["scores"])
