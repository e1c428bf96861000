"""`synthetic:`: random valid frames of the model's own shape; `synthetic:?seed=7` gives others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import CHANNELS
from edgeloop_agent.sources import SourceSpec, Wanted

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame

DISTINCT_FRAMES = 16
"""So many are made once and then repeated: making one costs more than a small model."""


class SyntheticSource:
    """Never ends. The same seed and model give the same frames on every machine."""

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        random = np.random.default_rng(spec.options.get("seed", 0))
        self._frames = [_sample(random, wanted) for _ in range(DISTINCT_FRAMES)]
        self._next = skip

    def read(self) -> tuple[Any, str] | None:
        at = self._next
        self._next = at + 1
        return self._frames[at % DISTINCT_FRAMES], f"synthetic[{at}]"

    def close(self) -> None:
        pass


def _sample(random: np.random.Generator, wanted: Wanted) -> Any:
    if not wanted.others:
        return _frame(random, wanted)
    return {each.input.name: _frame(random, each) for each in wanted.every}


def _frame(random: np.random.Generator, wanted: Wanted) -> Frame:
    spec = wanted.input
    if spec.kind == "image" and spec.size is not None:
        channels = CHANNELS[spec.color]
        shape = spec.size if channels == 1 else (*spec.size, channels)
        return random.integers(0, 256, shape, dtype=np.uint8)
    sample = wanted.shape[1:] if wanted.shape[:1] == (1,) else wanted.shape
    if wanted.dtype.kind in "iu" and wanted.lowest == wanted.highest:  # token ids and the like: 0 is always one
        return np.zeros(sample, wanted.dtype)
    # Raw values are what becomes a value in the model's range after the contract's scaling.
    real = random.uniform(wanted.lowest, wanted.highest, sample)
    mean = np.asarray(spec.mean if len(spec.mean) > 1 else spec.mean[0])
    std = np.asarray(spec.std if len(spec.std) > 1 else spec.std[0])
    frame: npt.NDArray[np.float32] = (real * std + mean).astype(np.float32)
    return frame
