"""Evaluate exported files: task metric, agreement with the float model, error per tensor. Never a simulation.

What is run is the very bytes that go into the bundle, through the preprocessing and decoding that run on the device.
"""

from __future__ import annotations

from edgeloop_converters.evaluate.metrics import ClassScores, classification_scores, confusion_matrix, preload_sklearn
from edgeloop_converters.evaluate.per_op import OpError, per_op_errors
from edgeloop_converters.evaluate.run import Evaluation, Outcome, run_models
from edgeloop_converters.evaluate.summary import Quality, summarize

__all__ = [
    "ClassScores",
    "Evaluation",
    "OpError",
    "Outcome",
    "Quality",
    "classification_scores",
    "confusion_matrix",
    "per_op_errors",
    "preload_sklearn",
    "run_models",
    "summarize",
]
