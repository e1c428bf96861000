"""Evaluate exported files: task metric, agreement with the float model, error per tensor. Never a simulation.

What is run is the very bytes that go into the bundle, through the preprocessing and decoding that run on the device.
"""

from __future__ import annotations

from edgeloop_converters.evaluate.metrics import ClassScores, classification_scores, confusion_matrix
from edgeloop_converters.evaluate.per_op import Comparison, OpError, compare_tensors, per_op_errors
from edgeloop_converters.evaluate.run import Evaluation, Outcome, run_models
from edgeloop_converters.evaluate.scorer import Scorer
from edgeloop_converters.evaluate.summary import Quality, summarize
from edgeloop_converters.evaluate.tensor_range import TensorRange

__all__ = [
    "ClassScores",
    "Comparison",
    "Evaluation",
    "OpError",
    "Outcome",
    "Quality",
    "Scorer",
    "TensorRange",
    "classification_scores",
    "compare_tensors",
    "confusion_matrix",
    "per_op_errors",
    "run_models",
    "summarize",
]
