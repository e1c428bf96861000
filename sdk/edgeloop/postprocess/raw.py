"""Outputs as they are, in real values."""

from __future__ import annotations

from collections.abc import Sequence

from edgeloop.contract import OutputSpec
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, other_values
from edgeloop.postprocess.results import Result


def raw_values(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Every output dequantized, float32, in the model's order."""
    values, kind = other_values(outputs, ()), spec.kind

    def decode(raw: Sequence[Array], _seen: Seen = NOTHING_SEEN) -> Result:
        return Result(kind, values=values(raw))

    return decode
