"""How far a quantized model's answers are from the float model's: the figure that the passes make smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph
from edgeloop_converters.passes.packed import PackedModel, cut, run_real, score_names

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[Array]]


class OutputError:
    """Mean squared error of the outputs before a softmax or sigmoid, each output relative to its own variance.

    Unitless: 0.01 means an error of a tenth of the outputs' standard deviation.
    """

    def __init__(self, float_model: bytes, samples: Samples, threads: int = 1) -> None:
        graph = Graph.read(float_model)
        self._names, self._samples, self._threads = score_names(graph), samples, threads
        self._wanted = run_real(cut(graph, self._names), samples, threads)
        self._spread = [max(float(np.var(values)), 1e-12) for values in self._wanted]

    def of(self, model: PackedModel) -> float:
        return self.of_graph(model.graph)

    def of_graph(self, graph: Graph) -> float:
        got = run_real(cut(graph, self._names), self._samples, self._threads)
        errors = [
            float(np.mean(np.square(a - b, dtype=np.float64))) / spread
            for a, b, spread in zip(got, self._wanted, self._spread, strict=True)
        ]
        return sum(errors) / len(errors)
