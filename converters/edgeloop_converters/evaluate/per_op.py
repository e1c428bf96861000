"""Error per tensor: each op's output in the exported file against the same tensor in the float model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.contract import Contract
from edgeloop.errors import DataError
from edgeloop.preprocess import compile_inputs
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.data import Dataset
from edgeloop_converters.evaluate.tensor_range import RangeCount, TensorRange

if TYPE_CHECKING:
    from edgeloop.graph import Graph

Indices = npt.NDArray[np.int64]

SAMPLES = 16
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
MAX_SNR_DB = 200.0
"""Said for equal tensors, whose ratio is infinite: JSON has no infinity."""


@dataclass(frozen=True)
class OpError:
    """Output of op `index` (of the exported file's main subgraph), whose builtin name is `name`, over all samples.

    mse and max_abs in the tensor's real units; snr_db = 10 log10(sum(float^2) / sum((float - this)^2)).
    """

    index: int
    name: str
    output: str
    mse: float
    max_abs: float
    snr_db: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """Two files, tensor by tensor. ranges: of the inputs and of every tensor in `errors` that has codes."""

    errors: tuple[OpError, ...] = ()
    ranges: tuple[TensorRange, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One op's output tensor in the exported file, and the tensor that it stands for in the float file."""

    op_index: int
    op_name: str
    tensor_name: str
    tensor: int
    float_tensor: int


def match_tensors(float_graph: Graph, graph: Graph) -> tuple[Pair, ...]:
    """Pair op outputs by tensor name; where names differ, by position if both files have the same ops in order.

    Of a fused name, "a;b;c", the first part is enough: the frontends leave out the rest.
    """
    float_outputs = [o for op in float_graph.main.ops for o in op.outputs]
    names = float_graph.main.tensors
    by_name = {names[i].name.split(";", 1)[0]: i for i in float_outputs} | {names[i].name: i for i in float_outputs}
    pairs = []
    for index, op in enumerate(graph.main.ops):
        if op.name in _CONVERSIONS:
            continue
        for output in op.outputs:
            name = graph.main.tensors[output].name
            twin = by_name.get(name, by_name.get(name.split(";", 1)[0]))
            if twin is not None:
                pairs.append(Pair(index, op.name, name, output, twin))
    return tuple(pairs) or _match_by_position(float_graph, graph)


def _match_by_position(float_graph: Graph, graph: Graph) -> tuple[Pair, ...]:
    ours = [(i, op) for i, op in enumerate(graph.main.ops) if op.name not in _CONVERSIONS]
    theirs = [op for op in float_graph.main.ops if op.name not in _CONVERSIONS]
    if [op.name for _, op in ours] != [op.name for op in theirs]:
        return ()
    return tuple(
        Pair(index, op.name, graph.main.tensors[output].name, output, twin)
        for (index, op), float_op in zip(ours, theirs, strict=True)
        for output, twin in zip(op.outputs, float_op.outputs, strict=False)
    )


def per_op_errors(
    float_model: bytes,
    model: bytes,
    contract: Contract,
    dataset: Dataset,
    indices: Sequence[int] | Indices,
    *,
    progress: Progress | None = None,
) -> tuple[OpError, ...]:
    """The errors of `compare_tensors`."""
    return compare_tensors(float_model, model, contract, dataset, indices, progress=progress).errors


def compare_tensors(
    float_model: bytes,
    model: bytes,
    contract: Contract,
    dataset: Dataset,
    indices: Sequence[int] | Indices,
    *,
    progress: Progress | None = None,
) -> Comparison:
    """Run both files over the samples and compare every tensor that both have, in the order of the exported file's ops.

    Errors of earlier ops are contained in those of later ones. Empty where the files have no tensors in common.
    """
    from edgeloop.graph import Graph

    pairs = match_tensors(Graph.read(float_model), Graph.read(model))
    if not pairs:
        return Comparison()
    sums = np.zeros((len(pairs), 2))  # squared error, squared reference
    worst = np.zeros(len(pairs))
    counts = np.zeros(len(pairs), np.int64)
    reporter = progress or SilentProgress()
    with (
        open_session(float_model, keep_tensors=True) as float_session,
        open_session(model, keep_tensors=True) as session,
        reporter.step("error per layer", total=len(indices)) as advance,
    ):
        infos = {t.index: t for t in session.tensors()}
        float_affines = {t.index: t.affine for t in float_session.tensors()}
        input_ranges = [RangeCount.of(None, "INPUT", t.name, t.affine, t.dtype) for t in session.inputs]
        ranges = [
            RangeCount.of(p.op_index, p.op_name, p.tensor_name, infos[p.tensor].affine, infos[p.tensor].dtype)
            if p.tensor in infos
            else None
            for p in pairs
        ]
        prepare = [compile_inputs(contract.inputs, s.inputs) for s in (float_session, session)]
        for index in indices:
            frame = dataset.sample(int(index))
            for one, ready in zip((float_session, session), prepare, strict=True):
                for i, (array, counted) in enumerate(zip(ready(frame), input_ranges, strict=True)):
                    one.set_input(i, array)
                    if one is float_session and counted is not None:
                        counted.add(dequantize(array, one.inputs[i].affine))
                one.invoke()
            for k, pair in enumerate(pairs):
                try:
                    expected = dequantize(float_session.tensor(pair.float_tensor), float_affines[pair.float_tensor])
                    found = dequantize(session.tensor(pair.tensor), infos[pair.tensor].affine)
                except (DataError, KeyError):  # a tensor without data, or without a name
                    continue
                if expected.shape != found.shape:
                    continue
                with np.errstate(invalid="ignore", over="ignore"):  # tensors that are not finite are left out below
                    difference = (found - expected).astype(np.float64)
                    sums[k] += (np.square(difference).sum(), np.square(expected, dtype=np.float64).sum())
                    worst[k] = max(worst[k], float(np.abs(difference).max(initial=0.0)))
                counts[k] += difference.size
                if (counted := ranges[k]) is not None:
                    counted.add(expected)
            advance(1)
    errors = tuple(
        OpError(pair.op_index, pair.op_name, pair.tensor_name, float(error / n), float(most), snr_db(signal, error))
        for pair, (error, signal), most, n in zip(pairs, sums, worst, counts, strict=True)
        if n and math.isfinite(error) and math.isfinite(signal)
    )
    found_ranges = (counted.result() for counted in (*input_ranges, *ranges) if counted is not None)
    return Comparison(errors, tuple(r for r in found_ranges if r is not None))


def snr_db(signal: float, error: float) -> float:
    """10 log10(signal / error) of two sums of squares, kept within +-MAX_SNR_DB."""
    if error <= 0:
        return MAX_SNR_DB
    if signal <= 0:
        return -MAX_SNR_DB
    return float(np.clip(10 * math.log10(signal / error), -MAX_SNR_DB, MAX_SNR_DB))
