"""What a tensor holds in the float model against what its codes can say in the exported file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine


@dataclass(frozen=True)
class TensorRange:
    """index, name: of the op that writes it in the exported file; None and "INPUT" for an input of the model.

    float_min, float_max: over the samples, in the float model. quantized_min, quantized_max: the values of the lowest
    and highest code. clipped: the share of the float values that no code is near (more than half a step outside).
    """

    index: int | None
    name: str
    tensor: str
    float_min: float
    float_max: float
    quantized_min: float
    quantized_max: float
    clipped: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def code_range(affine: Affine, dtype: npt.DTypeLike) -> tuple[float, float] | None:
    """(lowest, highest) real value that codes of an integer `dtype` stand for; None where it is not quantized."""
    kind = np.dtype(dtype)
    if not affine.is_quantized or kind.kind not in "iu":
        return None
    info = np.iinfo(kind)
    return affine.scale * (int(info.min) - affine.zero_point), affine.scale * (int(info.max) - affine.zero_point)


@dataclass
class RangeCount:
    """Fed with the float values of one tensor, sample by sample."""

    index: int | None
    name: str
    tensor: str
    limits: tuple[float, float]
    step: float
    low: float = field(default=np.inf)
    high: float = field(default=-np.inf)
    outside: int = 0
    count: int = 0

    @classmethod
    def of(cls, index: int | None, name: str, tensor: str, affine: Affine, dtype: npt.DTypeLike) -> RangeCount | None:
        """None where the tensor has no codes."""
        limits = code_range(affine, dtype)
        return None if limits is None else cls(index, name, tensor, limits, affine.scale)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """values: real, of any shape. Not finite ones do not count."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        below, above = self.limits[0] - self.step / 2, self.limits[1] + self.step / 2
        self.outside += int(np.count_nonzero((finite < below) | (finite > above)))
        self.count += finite.size

    def result(self) -> TensorRange | None:
        """None before the first value."""
        if not self.count:
            return None
        return TensorRange(
            self.index, self.name, self.tensor, self.low, self.high, *self.limits, self.outside / self.count
        )
