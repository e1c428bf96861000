"""Samples as passes take them, from the ways in which people have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop_converters.passes.figures import Samples

Given = Samples | npt.NDArray[Any] | Sequence[npt.NDArray[Any]]
_HINT = "an array [samples, ...], or a list with one array [1, ...] per input for each sample"


def as_samples(graph: Graph, samples: Any) -> Samples:
    """What passes take (`Samples`) as it is; else an array [samples, ...], or a list of arrays, of a model's one input.

    Only the first sample is looked at. Raises DataError where it does not fit the model's inputs.
    """
    wanted = [tuple(tensor.shape_signature or tensor.shape) for tensor in graph.inputs]
    if isinstance(samples, np.ndarray) and samples.ndim:
        samples = list(samples)
    if isinstance(samples, (str, bytes)) or not isinstance(samples, Sequence):
        raise DataError(f"samples are arrays, not a {type(samples).__name__}", hint=_HINT)
    if not samples:
        return ()
    if isinstance(samples[0], np.ndarray):
        if len(wanted) != 1:
            raise DataError(f"samples: one array each, and the model has {len(wanted)} inputs", hint=_HINT)
        samples = [(_batch_of_one(sample, len(wanted[0])),) for sample in samples]
    try:
        found = [tuple(np.shape(array)) for array in samples[0]]
    except (TypeError, ValueError) as error:
        raise DataError(f"samples: the first one is no array, nor one for each input ({error})", hint=_HINT) from error
    if len(found) != len(wanted) or not all(map(_fits, found, wanted)):
        given, takes = (" and ".join(str(list(shape)) for shape in several) for several in (found, wanted))
        raise DataError(f"samples: the first one is {given or 'empty'}, the model takes {takes}", hint=_HINT)
    fitting: Samples = samples
    return fitting


def _batch_of_one(sample: Any, rank: int) -> npt.NDArray[np.float32]:
    array = np.asarray(sample, np.float32)
    return array[None] if array.ndim == rank - 1 else array


def _fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Axes that the model leaves open, and the first one, may be of any length."""
    return len(found) == len(wanted) and all(a == b or b < 1 for a, b in zip(found[1:], wanted[1:], strict=True))
