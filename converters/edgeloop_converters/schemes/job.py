"""What a scheme starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.assistant import Assistant
from edgeloop_converters.calibration import Ranges

Array = npt.NDArray[Any]
Samples = Callable[[], Iterator[tuple[Array, ...]]]


def _no_samples() -> Iterator[tuple[Array, ...]]:
    return iter(())


@dataclass(frozen=True)
class Job:
    """The float model, its ranges, and the way to the calibration samples.

    ranges: None for schemes whose activations stay float. samples: a new pass over the model's inputs, one array
    [1, ...] each, valid until the next. per_tensor_dense: one scale per FULLY_CONNECTED weight, which the Edge TPU
    compiler wants. options: of the recipe's quantize step, as "bits". assistant: a process that packs; None: this one.
    """

    model: bytes
    ranges: Ranges | None
    samples: Samples = _no_samples
    total: int = 0
    per_tensor_dense: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=SilentProgress)
    assistant: Assistant | None = None
