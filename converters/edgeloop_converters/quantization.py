"""Float .tflite and ranges in, int8 .tflite out, verified. ai-edge-quantizer packs; TFLiteConverter for comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeloop.progress import Progress
from edgeloop_converters.calibration import Ranges

Array = npt.NDArray[Any]

ENGINES = ("aeq", "tflite")


@dataclass(frozen=True)
class Quantized:
    """float_ops: ops that stayed float, by builtin name (empty: all int8). notes: what the user should know."""

    tflite: bytes
    scheme: str = "int8"
    float_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def quantize_int8(
    model: bytes, ranges: Ranges, *, fully_connected_per_tensor: bool = False, progress: Progress | None = None
) -> Quantized:
    """Static int8 weights (per channel) and activations, int8 input and output.

    fully_connected_per_tensor: one scale per FULLY_CONNECTED weight, which the Edge TPU compiler wants.
    Raises UsageError when ranges are missing or the quantizer cannot do it.
    """
    raise NotImplementedError


def quantize_int8_tflite(
    source: Path,
    samples: Iterable[Array],
    *,
    trust_code: bool = False,
    signature: str | None = None,
    progress: Progress | None = None,
) -> Quantized:
    """`--engine tflite`: TFLiteConverter's own int8 from the source model, in a child process. Not for .tflite sources.

    samples: model inputs [1, ...] float32, as `model_inputs` gives them.
    """
    raise NotImplementedError
