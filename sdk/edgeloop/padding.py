"""Samples of differing size: how large one really is, and how it is brought to the size that a model takes.

A sample is filled up behind with the contract's `pad`, so one that ends in `pad` is no other than the shorter one: what
is nothing but `pad` at the end of a free axis does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import FREE, InputSpec
from edgeloop.errors import DataError

Array = npt.NDArray[Any]
Sample = Array | Mapping[str, Array]
Shape = tuple[int, ...]


LARGER_SHAPE = "convert with a larger --shape, or give shorter samples"
"""What to do about a sample that does not go in; who knows of larger variants has a better one."""


def actual_shape(spec: InputSpec, frame: Array) -> Shape:
    """The shape of `frame` without the `pad` at the end of its free axes; at least 1 each.

    Raises DataError where the frame differs in the number of axes, or in one that is not free.
    """
    frame = _sample_axes(spec, frame)
    assert spec.shape is not None
    sizes = list(frame.shape)
    for axis, size in enumerate(spec.shape):
        if size == FREE and frame.shape[axis] > 1:
            sizes[axis] = _used(frame, axis, spec.pad)
    return tuple(sizes)


def pad_to(spec: InputSpec, frame: Array, shape: Sequence[int]) -> Array:
    """`frame` at `shape` (of one sample): filled up behind with `pad`, and cut where there is nothing but `pad`.

    Raises DataError where it is larger, or differs in an axis that is not free.
    """
    frame = _sample_axes(spec, frame)
    assert spec.shape is not None
    if frame.shape == tuple(shape):
        return frame
    for axis, (size, wanted) in enumerate(zip(frame.shape, shape, strict=True)):
        if size > wanted and _used(frame, axis, spec.pad) > wanted:
            raise DataError(
                f"input {spec.name!r}: a sample of {list(actual_shape(spec, frame))} is larger than {list(shape)}, the "
                "largest that the model takes",
                hint=LARGER_SHAPE,
            )
    out = np.full(tuple(shape), spec.pad, frame.dtype)
    common = tuple(slice(min(a, b)) for a, b in zip(frame.shape, shape, strict=True))
    out[common] = frame[common]
    return out


def padded(specs: Sequence[InputSpec], sample: Sample, shapes: Sequence[Sequence[int]]) -> Sample:
    """The sample with every input of free sizes at its shape; `shapes` may be empty where there is none."""
    at = {spec.name: shape for spec, shape in zip(specs, shapes, strict=False) if spec.has_free_sizes}
    if not at:
        return sample
    if not isinstance(sample, Mapping):
        return pad_to(specs[0], sample, at[specs[0].name])
    by_name = {spec.name: spec for spec in specs}
    return {n: pad_to(by_name[n], array, at[n]) if n in at else array for n, array in sample.items()}


def smallest_holding(
    specs: Sequence[InputSpec], sample: Sample, buckets: Sequence[Sequence[Sequence[int]]]
) -> int | None:
    """Index of the smallest of `buckets` (the shape of each input) that holds the sample; None: it is too large.

    Raises DataError for a sample that misses an input or has other axes.
    """
    sizes = [actual_shape(s, _of(sample, s)) if s.has_free_sizes else None for s in specs]
    by_size = sorted(range(len(buckets)), key=lambda i: sum(int(np.prod(shape)) for shape in buckets[i]))
    for i in by_size:
        if all(
            size is None or all(a <= b for a, b in zip(size, shape, strict=True))
            for size, shape in zip(sizes, buckets[i], strict=True)
        ):
            return i
    return None


def _of(sample: Sample, spec: InputSpec) -> Array:
    if not isinstance(sample, Mapping):
        return sample
    if spec.name not in sample:
        raise DataError(f"the sample has no array for input {spec.name!r}")
    return sample[spec.name]


def _used(frame: Array, axis: int, pad: float) -> int:
    others = tuple(i for i in range(frame.ndim) if i != axis)
    filled = np.flatnonzero((frame != pad).any(axis=others))
    return int(filled[-1]) + 1 if len(filled) else 1


def _sample_axes(spec: InputSpec, frame: Array) -> Array:
    """Without a batch axis of 1; with axes of 1 where the contract has some and the frame left them out.

    Raises DataError for another number of axes, and where one that is not free has another size.
    """
    assert spec.shape is not None
    frame = _with_rank(spec, frame, len(spec.shape))
    for axis, (size, wanted) in enumerate(zip(frame.shape, spec.shape, strict=True)):
        if wanted not in (FREE, size):
            raise DataError(
                f"input {spec.name!r} takes {list(spec.shape)}, got {list(frame.shape)}",
                hint=f"axis {axis} must be {wanted}; free are those that say {FREE}",
            )
    return frame


def _with_rank(spec: InputSpec, frame: Array, rank: int) -> Array:
    assert spec.shape is not None
    if frame.ndim == rank + 1 and frame.shape[0] == 1:
        inner: Array = frame[0]
        return inner
    if frame.ndim < rank:
        units = [i for i, size in enumerate(spec.shape) if size == 1]
        if len(units) == rank - frame.ndim:
            return np.expand_dims(frame, tuple(units))
    if frame.ndim != rank:
        raise DataError(f"input {spec.name!r} takes samples of {list(spec.shape)}, got {list(frame.shape)}")
    return frame
