"""Ranges of every float tensor over the calibration samples; the loop is our own.

Libraries' calibrators fail on while-loops, and ai-edge-quantizer's default is a moving average that clips the input.

"grouped" (the default): the samples are dealt into groups of about 16, and the range of a tensor is the mean of its
groups' true minima and maxima. Rare extremes then cost no resolution, and the draw of samples matters less; inputs
and outputs of the model keep their true range. "min-max": the true minimum and maximum of all samples. `docs/adr/0070`.
"percentile", "mse" and "entropy" take a tensor's range from the distribution of its values: `passes.histograms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract
from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.lookups import index_ranges
from edgeloop.preprocess import ModelInput, compile_inputs
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import Session, TensorInfo, open_session
from edgeloop_converters.data import Dataset
from edgeloop_converters.passes.histograms import CHOICES, Histogram

Array = npt.NDArray[Any]

# How far XNNPACK's inner tensors may be from the reference kernels', relative to the tensor's largest value. Fused
# tensors, which are never computed, are off by all of it.
_SAME_KERNEL = 1e-2

METHODS = ("grouped", "min-max", "percentile", "mse", "entropy")
GROUP_SIZE = 16


@dataclass(frozen=True)
class Ranges:
    """tensors: name -> (min, max) in real units, of the main subgraph's float32 tensors. samples: how many it saw."""

    tensors: Mapping[str, tuple[float, float]]
    samples: int
    method: str = "grouped"


@dataclass(frozen=True)
class _Input:
    """What `compile_input` reads of a model input, from the graph."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Any
    index_range: tuple[int, int] | None = None


def input_infos(model: bytes) -> tuple[ModelInput, ...]:
    """The model's inputs without opening an interpreter. Raises RefusedError."""
    return inputs_of(Graph.read(model))


def inputs_of(graph: Graph) -> tuple[ModelInput, ...]:
    """`input_infos` of a model that was read already."""
    main = graph.main
    ranges = index_ranges(main.inputs, main.ops, lambda i: main.tensors[i].shape)
    return tuple(
        _Input(t.name, t.shape, np.dtype(t.dtype), t.affine, ranges.get(index))
        for index, t in zip(main.inputs, graph.inputs, strict=True)
    )


def model_inputs(
    contract: Contract, model: bytes, dataset: Dataset, indices: Sequence[int] | npt.NDArray[np.int64]
) -> Iterator[tuple[Array, ...]]:
    """The samples at `indices` as the model takes them: one array [1, ...] per input in its dtype, in reused buffers.

    Raises DataError naming the sample that does not fit.
    """
    prepare = compile_inputs(contract.inputs, input_infos(model))
    for index in indices:
        try:
            yield prepare(dataset.sample(int(index)))
        except DataError as error:
            described = dataset.describe(int(index))
            if described in error.message:
                raise
            raise DataError(f"{described}: {error.message}", hint=error.hint) from error


def calibrate(
    model: bytes,
    samples: Iterable[Array | Sequence[Array]],
    *,
    method: str = "grouped",
    total: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    on_sample: Callable[[Sequence[str], npt.NDArray[np.float64]], None] | None = None,
) -> Ranges:
    """Run a float .tflite over `samples` (each one array, or one per input, [1, ...]) and record ranges, streaming.

    total: how many samples come, where it is known: groups are then dealt like cards, so that samples sorted by class
    do not make groups of one class. on_sample: is shown each sample's extremes, (tensor names, [tensors, 2]).
    Raises DataError naming the tensor when NaN or infinity turns up, and when there are no samples; UsageError for an
    unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"calibration method '{method}' is not known", hint=f"one of: {', '.join(METHODS)}")
    if total is None and isinstance(samples, Sequence):
        total = len(samples)
    extremes = _Extremes(total if method == "grouped" else 1)
    choose = CHOICES.get(method)
    histograms: list[Histogram] = []
    seen = 0
    session: Session | None = None
    watched: list[TensorInfo] = []
    names: list[str] = []
    try:
        with (progress or SilentProgress()).step("calibrating", total=total) as advance:
            for sample in samples:
                arrays = [sample] if isinstance(sample, np.ndarray) else list(sample)
                if session is None:
                    session, watched = _open(model, arrays, threads)
                    names = [info.name for info in watched]
                    histograms = [Histogram() for _ in watched] if choose is not None else []
                for i, array in enumerate(arrays):
                    session.set_input(i, array)
                session.invoke()
                row = np.empty((len(watched), 2))
                for i, info in enumerate(watched):
                    values = session.tensor(info.index)
                    row[i] = values.min(), values.max()
                # NaN spreads through min and max, so two numbers tell for the whole tensor.
                if not np.isfinite(row).all():
                    bad = int(np.flatnonzero(~np.isfinite(row).all(axis=1))[0])
                    raise _not_finite(watched[bad], session, seen)
                if on_sample is not None:
                    on_sample(names, row)
                extremes.add(seen, row)
                for info, histogram in zip(watched, histograms, strict=bool(histograms)):
                    histogram.add(session.tensor(info.index))
                seen += 1
                advance(1)
        if session is None:
            raise DataError("no samples to calibrate with")
        borders = {t.index for t in (*session.inputs, *session.outputs)}
    finally:
        if session is not None:
            session.close()
    inner, true = extremes.mean(), extremes.true()
    if choose is not None:
        inner = np.array([choose(histogram) for histogram in histograms]).reshape(-1, 2)
    chosen = [true[i] if info.index in borders else inner[i] for i, info in enumerate(watched)]
    return Ranges(
        {info.name: (float(r[0]), float(r[1])) for info, r in zip(watched, chosen, strict=True)}, seen, method
    )


class _Extremes:
    """(min, max) per tensor, kept per group of samples: [tensors, 2] each."""

    def __init__(self, total: int | None) -> None:
        self._group_count = None if total is None else max(1, round(total / GROUP_SIZE))
        self._groups: dict[int, npt.NDArray[np.float64]] = {}
        self._sizes: dict[int, int] = {}

    def add(self, index: int, row: npt.NDArray[np.float64]) -> None:
        group = index // GROUP_SIZE if self._group_count is None else index % self._group_count
        known = self._groups.get(group)
        if known is None:
            self._groups[group] = row
        else:
            np.minimum(known[:, 0], row[:, 0], out=known[:, 0])
            np.maximum(known[:, 1], row[:, 1], out=known[:, 1])
        self._sizes[group] = self._sizes.get(group, 0) + 1

    def mean(self) -> npt.NDArray[np.float64]:
        """Mean over the groups, each counting by its size: a last group of 3 has seen little."""
        weights = np.asarray(list(self._sizes.values()), np.float64)
        stacked = np.stack(list(self._groups.values()))
        return np.asarray(np.average(stacked, axis=0, weights=weights))

    def true(self) -> npt.NDArray[np.float64]:
        stacked = np.stack(list(self._groups.values()))
        return np.stack([stacked[..., 0].min(axis=0), stacked[..., 1].max(axis=0)], axis=1)


def _open(model: bytes, arrays: Sequence[Array], threads: int) -> tuple[Session, list[TensorInfo]]:
    """A session that shows all inner tensors: XNNPACK where that is so for this model, else the reference kernels."""
    constants = {i for i, t in enumerate(Graph.read(model).main.tensors) if t.is_constant}
    reference = open_session(model, delegate="cpu", threads=threads, keep_tensors=True)
    watched = _readable(reference, arrays, constants)
    fast = open_session(model, delegate="xnnpack", threads=threads, keep_tensors=True)
    if _shows_all(fast, reference, arrays, watched):
        reference.close()
        return fast, watched
    fast.close()
    return reference, watched


def _readable(session: Session, arrays: Sequence[Array], constants: set[int]) -> list[TensorInfo]:
    _run(session, arrays)
    readable = []
    for info in session.tensors():
        if info.dtype != np.float32 or info.index in constants:
            continue
        try:
            values = session.tensor(info.index)
        except DataError:  # a tensor that no op computes
            continue
        if values.size:
            readable.append(info)
    return readable


def _shows_all(fast: Session, reference: Session, arrays: Sequence[Array], watched: Sequence[TensorInfo]) -> bool:
    _run(fast, arrays)
    for info in watched:
        try:
            ours, theirs = fast.tensor(info.index), reference.tensor(info.index)
        except DataError:
            return False
        allowed = _SAME_KERNEL * max(1e-6, float(np.abs(theirs).max()))
        with np.errstate(invalid="ignore"):  # infinity is named where ranges are taken
            if ours.shape != theirs.shape or not float(np.abs(ours - theirs).max()) <= allowed:
                return False
    return True


def _run(session: Session, arrays: Sequence[Array]) -> None:
    for i, array in enumerate(arrays):
        session.set_input(i, array)
    session.invoke()


def _not_finite(info: TensorInfo, session: Session, seen: int) -> DataError:
    inputs = {t.index for t in session.inputs}
    if info.index in inputs:
        return DataError(
            f"calibration sample {seen}: input '{info.name}' holds NaN or infinity",
            hint="mend the sample or leave it out: edgeloop check-data",
        )
    return DataError(
        f"calibration sample {seen}: tensor '{info.name[:120]}' becomes NaN or infinity",
        hint="check the contract's mean and std, and the model itself",
    )
