"""Whether pixels, scaled as a contract says, are what a quantized input can hold. Pure."""

from __future__ import annotations

from statistics import fmean

from edgeloop.affine import Affine
from edgeloop.contract import InputSpec

_LEAST_HELD = 0.5
_LEAST_USED = 0.1
_CODES = {"int8": (-128, 127), "uint8": (0, 255)}


def range_doubt(spec: InputSpec, affine: Affine, dtype: str) -> str:
    """Where less than half of the contract's range lies inside the input's, or it fills less than a tenth of that: what
    to say; else "". For pictures and 8-bit inputs.
    """
    if spec.kind != "image" or not affine.is_quantized or dtype not in _CODES:
        return ""
    low, high = ((code - affine.zero_point) * affine.scale for code in _CODES[dtype])
    ends = [((0 - m) / s, (255 - m) / s) for m, s in zip(*_per_channel(spec), strict=True)]
    least, most = fmean(min(pair) for pair in ends), fmean(max(pair) for pair in ends)
    wanted, held = most - least, min(high, most) - max(low, least)
    if held >= _LEAST_HELD * wanted and held >= _LEAST_USED * (high - low):
        return ""
    std = 255 / (high - low)
    return (
        f"the contract makes pixels {least:.4g}..{most:.4g}, and the model's input holds "
        f"{low:.4g}..{high:.4g}: with mean = {-low * std:.4g} and std = {std:.4g} they would fill it"
    )


def _per_channel(spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    count = max(len(spec.mean), len(spec.std))
    return tuple(spec.mean) * (count // len(spec.mean)), tuple(spec.std) * (count // len(spec.std))
