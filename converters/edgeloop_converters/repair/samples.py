"""What repairs are fitted to and chosen by: calibration samples. The evaluation data never come in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop_converters.calibration import model_inputs
from edgeloop_converters.data import pick
from edgeloop_converters.repair.plan import Budget
from edgeloop_converters.sources import Sources

Ids = npt.NDArray[np.int64]
Samples = list[tuple[npt.NDArray[Any], ...]]

_FEWEST_UNSEEN = 64
_VALIDATION_SHARE = 3
"""One calibration sample in so many chooses where there are no others."""
_BYTES = 96 << 20
"""Of samples and their outputs held in memory at once."""
_COPIES = 4
"""Of every output: decoded and raw, the float model's and a candidate's."""


@dataclass(frozen=True)
class Material:
    """fit: float model inputs that rungs are fitted to. validation: others, that choose; with class ids where there
    are any. said: where the validation samples come from.
    """

    fit: Samples
    validation: Samples
    fit_labels: Ids | None
    validation_labels: Ids | None
    said: str


@dataclass(frozen=True)
class Choice:
    """Indices into the calibration data, in random order, so that any part of them is a fair one."""

    fit: Ids
    validation: Ids
    unseen: bool


def choose(calibration: Ids, spare: Ids, budget: Budget, seed: int) -> Choice:
    """spare: samples of the calibration data that nothing has looked at, nor will the evaluation. Pure.

    Where there are enough of these, they choose; else a third of the calibration samples, which then fit nothing here
    (but the ranges have seen them).
    """
    random = np.random.default_rng(seed)
    order = random.permutation(calibration)
    if len(spare) >= _FEWEST_UNSEEN:
        chosen = random.permutation(spare)[: budget.validation_samples]
        return Choice(order[: budget.fit_samples], chosen, True)
    held_out = min(budget.validation_samples, max(1, len(order) // _VALIDATION_SHARE))
    return Choice(order[held_out : held_out + budget.fit_samples], order[:held_out], False)


def gather(sources: Sources, model: bytes, budget: Budget, seed: int) -> Material:
    """Read the samples, as many as fit in memory; those that cannot be read are left out."""
    data = sources.data.calibration
    chosen = choose(sources.calibration, _spare(sources, budget, seed), budget, seed)
    graph = Graph.read(model)
    size = 4 * (sum(t.element_count for t in graph.inputs) + _COPIES * sum(t.element_count for t in graph.outputs))
    share = max(8, _BYTES // max(1, size))
    fit, fit_ids = _read(sources, model, chosen.fit[: share // 3])
    validation, validation_ids = _read(sources, model, chosen.validation[: share - share // 3])
    labels = data.labels
    whence = (
        "calibration data that nothing else looked at"
        if chosen.unseen
        else "the calibration samples held out (the first ranges saw them)"
    )
    return Material(
        fit, validation, None if labels is None else labels[fit_ids],
        None if labels is None else labels[validation_ids], f"{len(validation)} samples of {whence}",
    )  # fmt: skip


def _spare(sources: Sources, budget: Budget, seed: int) -> Ids:
    """None where the evaluation takes the rest, or the same files are named twice."""
    data = sources.data
    if data.is_one or _is_same(data.calibration.source, data.evaluation.source):
        return np.zeros(0, np.int64)
    rest = np.setdiff1d(np.arange(len(data.calibration), dtype=np.int64), sources.calibration)
    return rest[pick(data.calibration.subset(rest), budget.validation_samples, seed)]


def _is_same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())


def _read(sources: Sources, model: bytes, indices: Sequence[int] | Ids) -> tuple[Samples, Ids]:
    samples: Samples = []
    kept = []
    for index in indices:
        try:
            for arrays in model_inputs(sources.contract, model, sources.data.calibration, [int(index)]):
                samples.append(tuple([array.copy() for array in arrays]))  # the reader reuses its buffers
                kept.append(int(index))
        except DataError:
            continue
    return samples, np.asarray(kept, np.int64)
