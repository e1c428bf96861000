"""The figures that compression passes report before and after: work, size, memory, and the error at the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.analysis.macs import MacCounter
from edgeloop.analysis.memory import peak_memory_bytes
from edgeloop.graph import Graph
from edgeloop.graph.parts import cut
from edgeloop_converters.passes.packed import run_real, score_names

Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[npt.NDArray[Any]]]

Cost = Callable[[Graph], float]
"""What a goal counts: `macs`, bytes, or instructions from a table."""


def macs(graph: Graph) -> float:
    """Multiply-accumulates of one inference: the usual cost."""
    counter = MacCounter(graph)
    return float(sum(counter.op(op, graph.main) for op in graph.main.ops))


def weight_bytes(graph: Graph) -> float:
    """Of all constants that the main subgraph's ops read; shared ones once."""
    read = {i for op in graph.main.ops for i in op.inputs if i >= 0}
    return float(sum(graph.main.tensors[i].byte_count for i in read if graph.main.tensors[i].is_constant))


def figures(graph: Graph) -> dict[str, float]:
    """macs, bytes (constants), peak_memory_bytes."""
    return {
        "macs": macs(graph),
        "bytes": weight_bytes(graph),
        "peak_memory_bytes": float(peak_memory_bytes(graph.main)),
    }


def outputs(graph: Graph, samples: Samples, threads: int = 1) -> list[Floats]:
    """Over the samples, before a softmax or sigmoid, each [samples, ...]."""
    return run_real(cut(graph, score_names(graph)), samples, threads)


def output_error(wanted: Sequence[Floats], got: Sequence[Floats]) -> float:
    """Mean squared error as a share of the variance, the mean over the outputs."""
    errors = [
        float(np.square(a - b, dtype=np.float64).mean()) / max(float(np.var(a, dtype=np.float64)), 1e-12)
        for a, b in zip(wanted, got, strict=True)
    ]
    return sum(errors) / len(errors)
