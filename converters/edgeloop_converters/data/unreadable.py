"""Samples that cannot be used: one error that says how many of how many, and which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from edgeloop.errors import DataError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.data.dataset import Dataset, Indices, UnreadableError, is_finite, unreadable_error

_SLICE = 256


@contextmanager
def all_unreadable_named(parts: Iterable[tuple[Dataset, Indices]], progress: Progress) -> Iterator[None]:
    """Inside, the first sample that cannot be read ends the work. Then all that were chosen are looked through, so
    that one error names everything that has to be repaired. parts: datasets and the indices chosen of each."""
    try:
        yield
    except UnreadableError:
        chosen = [(dataset, np.asarray(indices).tolist()) for dataset, indices in parts]
        bad = [problem for dataset, indices in chosen for problem in _problems(dataset, indices, progress)]
        if not bad:
            raise
        raise unreadable_error(bad, sum(len(indices) for _, indices in chosen)) from None


def _problems(dataset: Dataset, indices: Sequence[int], progress: Progress | None) -> list[str]:
    def look(index: int) -> str:
        try:
            sample = dataset.read(index)
        except DataError as error:
            return error.message
        if not is_finite(sample):
            return f"{dataset.describe(index)} holds NaN or infinity"
        return ""

    found: list[str] = []
    step = (progress or SilentProgress()).step("looking for unreadable samples", total=len(indices))
    with step as advance, ThreadPoolExecutor(2) as pool:
        for start in range(0, len(indices), _SLICE):
            part = indices[start : start + _SLICE]
            found += [problem for problem in pool.map(look, part) if problem]
            advance(len(part))
    return found
