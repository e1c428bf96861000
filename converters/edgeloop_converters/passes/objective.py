"""How far a quantized model's answers are from the float model's: the figure that the passes make smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.graph import Graph
from edgeloop.graph.parts import cut
from edgeloop_converters.passes.packed import Group, PackedModel, Range, run_codes, run_real, score_names
from edgeloop_converters.passes.suffix import Suffix

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Samples = Sequence[Sequence[Array]]


class OutputError:
    """Mean squared error of the outputs before a softmax or sigmoid, each output relative to its own variance.

    Unitless: 0.01 means an error of a tenth of the outputs' standard deviation. visible_only: before a softmax, what
    lies too far below the sample's top value for an int8 softmax to show counts as lying just there. typical: the
    square of the mean over the samples' root mean square errors, in which a single loud sample does not outweigh all.
    """

    def __init__(
        self,
        float_model: bytes,
        samples: Samples,
        threads: int = 1,
        *,
        visible_only: bool = False,
        typical: bool = False,
    ) -> None:
        graph, self._typical = Graph.read(float_model), typical
        self._names, self._samples, self._threads = score_names(graph), samples, threads
        self._wanted = run_real(cut(graph, self._names), samples, threads)
        depths = visible_depths(graph) if visible_only else {}
        self._floors: list[Floats | None] = [
            wanted.max(axis=-1, keepdims=True) - depths[name] if name in depths else None
            for name, wanted in zip(self._names, self._wanted, strict=True)
        ]
        self._spread = [max(float(np.var(values)), 1e-12) for values in self._wanted]

    def of(self, model: PackedModel) -> float:
        return self.of_graph(model.graph)

    def of_graph(self, graph: Graph) -> float:
        return self._error(self._outputs(graph))

    def per_sample(self, model: PackedModel) -> Doubles:
        """[samples] Root mean square error of each, in units of the outputs' standard deviations."""
        return self._sample_errors(self._outputs(model.graph))

    def _outputs(self, graph: Graph) -> list[Floats]:
        codes = run_codes(cut(graph, self._names), self._samples, self._threads)
        affines = [graph.tensor_by_name(name).affine for name in self._names]
        return [dequantize(c, affine) for c, affine in zip(codes, affines, strict=True)]

    def with_range(self, model: PackedModel, group: Group) -> Callable[[Range], Doubles]:
        """`per_sample` of `model` with another range of `group`, as a function of that range."""
        suffix = Suffix(model, group, self._names, self._samples, self._threads)
        return lambda value: self._sample_errors(suffix.outputs(value))

    def _sample_errors(self, got: Sequence[Floats]) -> Doubles:
        return np.asarray(np.sqrt(np.mean([self._each(errors) for errors in self._errors(got)], axis=0)))

    def _error(self, got: Sequence[Floats]) -> float:
        errors = [self._mean(errors) for errors in self._errors(got)]
        return sum(errors) / len(errors)

    def _errors(self, got: Sequence[Floats]) -> list[Floats]:
        return [
            np.asarray((_above(a, floor) - _above(b, floor)) / np.sqrt(spread), np.float32)
            for a, b, spread, floor in zip(got, self._wanted, self._spread, self._floors, strict=True)
        ]

    def _mean(self, errors: Floats) -> float:
        each = self._each(errors)
        return float(np.mean(np.sqrt(each))) ** 2 if self._typical else float(each.mean())

    @staticmethod
    def _each(errors: Floats) -> Doubles:
        return np.asarray(np.square(errors.reshape(len(errors), -1), dtype=np.float64).mean(axis=1))


def visible_depths(graph: Graph) -> dict[str, float]:
    """Name of every softmax's input -> how far below the top value an int8 softmax still shows something.

    Its steps are 1/256: what is exp(-depth * beta) = 1/512 of the top rounds to 0.
    """
    return {
        graph.main.tensors[op.inputs[0]].name: float(np.log(512)) / abs(float(getattr(op.options, "beta", 1.0) or 1.0))
        for op in graph.main.ops
        if op.name == "SOFTMAX"
    }


def _above(values: Floats, floor: Floats | None) -> Floats:
    return values if floor is None else np.maximum(values, floor)
