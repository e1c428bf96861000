"""Decoding of model outputs by the contract's output kind, the same code on host and device."""

from __future__ import annotations

from edgeloop.postprocess.decoders import Decoder, ModelOutput, compile_output
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
    "Result", "compile_output",
]  # fmt: skip
