"""Affine quantization of arrays: real = scale * (q - zero_point), the int8 scheme of TFLite.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", eq. 1; rounding is half away from zero, as in TFLite's own kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Affine:
    """Per-tensor scale and zero point. `Affine(0.0, 0)` means: not quantized."""

    scale: float = 0.0
    zero_point: int = 0

    @property
    def is_quantized(self) -> bool:
        return self.scale != 0.0


def round_half_away(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Round to nearest, ties away from zero (numpy's own `round` takes ties to even)."""
    rounded: npt.NDArray[np.floating] = np.trunc(x + np.copysign(0.5, x))
    return rounded


def quantize(x: npt.ArrayLike, affine: Affine, dtype: npt.DTypeLike) -> Array:
    """Real values of any shape to codes of an integer `dtype`, saturating. Not-quantized: a plain cast."""
    target = np.dtype(dtype)
    values = np.asarray(x)
    if not affine.is_quantized:
        return values.astype(target, copy=False)
    info = np.iinfo(target)
    codes = round_half_away(values.astype(np.float32, copy=False) / np.float32(affine.scale)) + affine.zero_point
    saturated: Array = np.clip(codes, info.min, info.max).astype(target)
    return saturated


def dequantize(q: npt.ArrayLike, affine: Affine) -> npt.NDArray[np.float32]:
    """Codes of any shape to float32 real values. Not-quantized: a plain cast."""
    values = np.asarray(q)
    if not affine.is_quantized:
        return values.astype(np.float32, copy=False)
    real: npt.NDArray[np.float32] = (values.astype(np.float32) - np.float32(affine.zero_point)) * np.float32(
        affine.scale
    )
    return real
