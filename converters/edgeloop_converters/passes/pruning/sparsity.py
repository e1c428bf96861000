"""Unstructured pruning: W' = W where |W| > tau, else 0. It makes the compressed file smaller, nothing else.

XNNPACK's int8 kernels multiply by zeros as by anything: latency stays (docs/pruning.md), so what is reported is size.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Tensor
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.codes import WEIGHTED_OPS, operands
from edgeloop_converters.passes.pruning.consumers import data_of
from edgeloop_converters.passes.report import PassReport

Floats = npt.NDArray[np.float32]
Tune = Callable[[Graph], Graph]
"""Trains a little between two steps; zeros that it fills are zeroed again."""

NAME = "sparsify"
NOTE = "single zero weights make the compressed file smaller; latency does not move: kernels multiply by zeros, too"


def zeroed(weights: Floats, tau: float) -> Floats:
    """W' = W where |W| > tau, else 0."""
    return np.where(np.abs(weights) > tau, weights, np.float32(0))


def scheduled(step: int, steps: int, final: float, start: float = 0.0) -> float:
    """Share of zeros after step 1 .. steps: final + (start - final) (1 - step / steps)^3.

    Zhu and Gupta 2017, "To prune, or not to prune", eq. 1: many at first, while there is much to spare.
    """
    return final + (start - final) * (1 - step / steps) ** 3


def sparsify(
    graph: Graph,
    *,
    amount: float | None = None,
    threshold: float | None = None,
    by_layer: bool = False,
    steps: int = 1,
    tune: Tune | None = None,
    progress: Progress | None = None,
) -> tuple[Graph, PassReport]:
    """Zero single weights of convolutions and dense layers; biases stay. Exactly one of amount and threshold.

    amount: share of zeros, the smallest magnitudes of the whole model, or with `by_layer` of each layer. threshold:
    tau. steps, tune: towards `amount` in so many steps of the cubic schedule, `tune(graph)` after each. The report has
    sparsity and xz_bytes before and after; its note about latency goes to `progress`. Raises UsageError.
    """
    started = time.monotonic()
    if (amount is None) == (threshold is None):
        raise UsageError("zeroing weights takes exactly one of amount and threshold")
    if amount is not None and not 0 <= amount < 1:
        raise UsageError(f"amount is the share of weights that becomes 0, 0 <= amount < 1, got {amount:g}")
    if steps < 1 or (threshold is not None and steps > 1):
        raise UsageError("a schedule of steps goes towards an amount, in one step or more")
    if graph.numeric_kind() != "float":
        raise UsageError(f"the model is {graph.numeric_kind()}, pruning takes a float one", hint="quantize afterwards")
    shown = progress or SilentProgress()
    result = graph.copy()
    with shown.step(NAME, total=steps) as advance:
        for step in range(1, steps + 1):
            share = None if amount is None else scheduled(step, steps, amount)
            _zero(result, share, threshold, by_layer)
            if tune is not None:
                result = tune(result).copy()
                _zero(result, share, threshold, by_layer)
            advance(1)
    shown.note(NOTE)
    before, after = _figures(graph), _figures(result)
    detail = f"{after['sparsity']:.1%} of the weights are 0; only the compressed size changes, not the latency"
    return result, PassReport(NAME, detail, time.monotonic() - started, before, after)


def weights_of(graph: Graph) -> list[Tensor]:
    """Float weights of the main subgraph's layers, each once."""
    found = [graph.constant(op, operands(op)[0]) for op in graph.main.ops if op.name in WEIGHTED_OPS]
    return list({id(t): t for t in found if t is not None and t.dtype == "float32"}.values())


def _zero(graph: Graph, amount: float | None, threshold: float | None, by_layer: bool) -> None:
    """In place, by new arrays."""
    tensors = weights_of(graph)
    if amount is None:
        for tensor in tensors:
            tensor.data = zeroed(data_of(tensor), threshold or 0.0)
        return
    for together in [[t] for t in tensors] if by_layer else [tensors]:
        sizes = np.concatenate([np.abs(data_of(t)).ravel() for t in together]) if together else np.zeros(0)
        count = int(amount * sizes.size)
        if count:
            tau = float(np.partition(sizes, count - 1)[count - 1])
            for tensor in together:
                tensor.data = zeroed(data_of(tensor), tau)


def _figures(graph: Graph) -> dict[str, float]:
    tensors = weights_of(graph)
    count = sum(t.element_count for t in tensors)
    zeros = sum(int((data_of(t) == 0).sum()) for t in tensors)
    return {"sparsity": zeros / max(count, 1), "xz_bytes": float(len(lzma.compress(graph.write())))}
