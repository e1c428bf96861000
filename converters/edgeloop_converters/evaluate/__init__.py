"""Evaluate exported files: task metric, agreement with the float model, error per tensor. Never a simulation.

What is run is the very bytes that go into the bundle, through the preprocessing and decoding that run on the device.
"""

from __future__ import annotations

from edgeloop_converters.evaluate.metrics import ClassScores, classification_scores, confusion_matrix
from edgeloop_converters.evaluate.per_op import OpError, per_op_errors
from edgeloop_converters.evaluate.run import Evaluation, Outcome, run_models
from edgeloop_converters.evaluate.scorer import Scorer
from edgeloop_converters.evaluate.summary import Quality, summarize

__all__ = [
    "ClassScores",
    "Evaluation",
    "OpError",
    "Outcome",
    "Quality",
    "Scorer",
    "classification_scores",
    "confusion_matrix",
    "per_op_errors",
    "run_models",
    "summarize",
]
