"""True minimum and maximum of every float tensor over the calibration samples; the loop is our own.

Libraries' calibrators fail on while-loops, and ai-edge-quantizer's default is a moving average that clips ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract
from edgeloop.progress import Progress
from edgeloop_converters.data import Dataset

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ranges:
    """tensors: name -> (min, max) in real units. samples: how many were seen."""

    tensors: Mapping[str, tuple[float, float]]
    samples: int


def model_inputs(
    contract: Contract, model: bytes, dataset: Dataset, indices: Sequence[int] | npt.NDArray[np.int64]
) -> Iterator[Array]:
    """The samples at `indices` as the model takes them: [1, ...] in its dtype; each is a copy. Raises DataError."""
    raise NotImplementedError


def calibrate(
    model: bytes,
    samples: Iterable[Array | Sequence[Array]],
    *,
    total: int | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """Run a float .tflite over `samples` (each one array, or one per input, [1, ...]) and record ranges, streaming.

    Raises DataError naming the tensor when NaN or infinity turns up, and when there are no samples.
    """
    raise NotImplementedError
