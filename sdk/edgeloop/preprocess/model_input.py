"""What preprocessing is compiled for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine

Array = npt.NDArray[Any]
Preprocessor = Callable[[Array], Array]


class ModelInput(Protocol):
    """What is read of a tensor: `edgeloop.runtime.TensorInfo` fits."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]: ...
    @property
    def affine(self) -> Affine: ...
    @property
    def index_range(self) -> tuple[int, int] | None: ...
