"""Decoding of model outputs by the contract's output kind, the same code on host and device."""

from __future__ import annotations

from edgeloop.postprocess.decoding import (
    Decoder,
    ModelOutput,
    Seen,
    compile_output,
    decoded_outputs,
    needs_inputs,
)
from edgeloop.postprocess.results import (
    NO_CLASS,
    Anomaly,
    Box,
    ClassScore,
    ClassShare,
    Detection,
    Keypoint,
    Mask,
    Result,
)

__all__ = [
    "NO_CLASS", "Anomaly", "Box", "ClassScore", "ClassShare", "Decoder", "Detection", "Keypoint", "Mask", "ModelOutput",
    "Result", "Seen", "compile_output", "decoded_outputs", "needs_inputs",
]  # fmt: skip
