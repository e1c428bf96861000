"""Outputs of two models are compared by place: whether their values say that another order is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.errors import DataError
from edgeloop.runtime import TensorInfo
from edgeloop_converters.data import Dataset
from edgeloop_converters.io_names import output_names

Floats = npt.NDArray[np.floating[Any]]

SAMPLES = 16
_ALIKE, _APART = 0.9, 0.5
"""Correlation from which on two outputs are one, and below which they are not."""


_T = TypeVar("_T")


class Answering(Protocol):
    """A model with what goes in before it. answers: (its inputs, its raw outputs) for a sample."""

    @property
    def name(self) -> str: ...
    @property
    def outputs(self) -> Sequence[TensorInfo]: ...
    def answers(self, frame: Any) -> tuple[Sequence[npt.NDArray[Any]], list[npt.NDArray[Any]]]: ...


def reordered(
    lanes: Sequence[Answering],
    reference: str,
    models: Mapping[str, bytes],
    dataset: Dataset,
    chosen: npt.NDArray[np.int64],
) -> dict[str, str]:
    """By model, what to say of its order of outputs: by what those of one size answer to a few of the `chosen` samples.

    models: the files of all lanes. Raises DataError for a sample that does not fit.
    """
    sizes = [int(np.prod(output.shape)) for output in lanes[0].outputs]
    if len(set(sizes)) == len(sizes):
        return {}
    from edgeloop.graph import Graph

    values: dict[str, list[list[npt.NDArray[np.float32]]]] = {lane.name: [] for lane in lanes}
    for index in chosen[:: max(1, len(chosen) // SAMPLES)][:SAMPLES].tolist():
        frame = dataset.sample(index)
        for lane in lanes:
            _, raw = named(dataset, index, lane.answers, frame)
            values[lane.name].append([dequantize(a, info.affine) for a, info in zip(raw, lane.outputs, strict=True)])
    stacked = {name: [np.stack(column) for column in zip(*rows, strict=True)] for name, rows in values.items()}
    names = {name: output_names(Graph.read(model)) for name, model in models.items()}
    moved = {name: other_places(stacked[reference], own) for name, own in stacked.items() if name != reference}
    return {
        name: order_note(reference, name, places, (names[reference], names[name]))
        for name, places in moved.items()
        if places
    }


def named(dataset: Dataset, index: int, run: Callable[[Any], _T], frame: Any) -> _T:
    """`run(frame)`; raises DataError with the sample's name."""
    try:
        return run(frame)
    except DataError as error:
        raise DataError(f"{dataset.describe(index)}: {error.message}", hint=error.hint) from error


def other_places(wanted: Sequence[Floats], found: Sequence[Floats]) -> dict[int, int]:
    """Place in `found` -> the place in `wanted` whose values it has, for outputs that stand in another order; else {}.

    wanted, found: per output float [samples, ...], of the same samples. Correlations over samples and values decide,
    with each value's mean over the samples taken off: at their own places they must be low, at the others' high.
    """
    moved: dict[int, int] = {}
    for place, values in enumerate(found):
        rivals = {i: _correlation(one, values) for i, one in enumerate(wanted) if one.size == values.size}
        if place not in rivals or rivals[place] > _APART:
            continue
        best = max(rivals, key=lambda i: rivals[i])
        if rivals[best] >= _ALIKE:
            moved[place] = best
    return moved if sorted(moved) == sorted(moved.values()) else {}


def order_note(reference: str, other: str, moved: Mapping[int, int], names: tuple[Sequence[str], Sequence[str]]) -> str:
    """names: of the reference's outputs and the other's."""
    wanted, found = names
    pairs = ", ".join(f"'{found[b]}' of {other} answers as '{wanted[a]}' of {reference}" for b, a in moved.items())
    return f"outputs are compared by place, and {other} seems to have them in another order than {reference}: {pairs}"


def _correlation(one: Floats, other: Floats) -> float:
    """-1..1; 0 where one of the two does not change from sample to sample."""
    first, second = ((v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(axis=0)).ravel() for v in (one, other))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 1e-12 and np.isfinite(norm) else 0.0
