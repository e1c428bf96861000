"""Scores of candidates against the float model: the same samples, the same kernels, decisions and outputs alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize, quantize
from edgeloop.contract import OutputSpec
from edgeloop.graph import Graph, Subgraph
from edgeloop.postprocess import Result, Seen, compile_output
from edgeloop.runtime import open_session
from edgeloop_converters.evaluate.metrics import TOP_1, agreement_kind, output_agreement, result_agreement
from edgeloop_converters.passes.objective import visible_depths
from edgeloop_converters.passes.packed import score_names
from edgeloop_converters.repair.records import Score

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Samples = Sequence[Sequence[Array]]
Ids = npt.NDArray[np.int64]


class Judge:
    """samples: float model inputs, one array per input; labels: int64 [n] class ids or None.

    `of` runs a candidate once over the samples. With an output kind other than classification labels do not count.
    """

    def __init__(self, float_model: bytes, samples: Samples, output: OutputSpec, labels: Ids | None = None) -> None:
        graph = Graph.read(float_model)
        self._samples, self._output = samples, output
        self._names = score_names(graph)
        self._kind = agreement_kind(output)
        self._wanted, self._scores = self._run(graph)
        depths = visible_depths(graph)
        self._floors = [
            values.max(axis=-1, keepdims=True) - depths[name] if name in depths else None
            for name, values in zip(self._names, self._scores, strict=True)
        ]
        self._spread = [max(float(np.var(values)), 1e-12) for values in self._scores]
        self._labels = labels if self._kind == TOP_1 else None

    @property
    def samples(self) -> Samples:
        return self._samples

    def of(self, graph: Graph) -> Score:
        """Raises RefusedError where the runtime cannot load the candidate."""
        found, scores = self._run(graph)
        errors = [
            _typical(_above(ours, floor) - _above(theirs, floor)) / spread
            for ours, theirs, floor, spread in zip(scores, self._scores, self._floors, self._spread, strict=True)
        ]
        agreement = float(np.mean([self._agreement(a, b) for a, b in zip(self._wanted, found, strict=True)]))
        accuracy = float_accuracy = None
        if self._labels is not None:
            accuracy, float_accuracy = self._accuracy(found), self._accuracy(self._wanted)
        return Score(len(found), agreement, sum(errors) / len(errors), accuracy, float_accuracy)

    def _run(self, graph: Graph) -> tuple[list[Result], list[Floats]]:
        """Decoded outputs by sample, and the tensors of `score_names` in real units, stacked."""
        count = len(graph.main.outputs)
        rows: list[list[Floats]] = []
        results = []
        with open_session(_watched(graph, self._names)) as session:
            infos, outputs = session.inputs, session.outputs
            decode = compile_output(self._output.per_sample, outputs[:count])
            places = {info.name: i for i, info in reversed(list(enumerate(outputs)))}
            for arrays in self._samples:
                for i, (info, array) in enumerate(zip(infos, arrays, strict=True)):
                    session.set_input(
                        i, quantize(array, info.affine, info.dtype) if info.affine.is_quantized else array
                    )
                session.invoke()
                results.append(decode([session.output(i) for i in range(count)], Seen(inputs=arrays)))
                rows.append([dequantize(session.output(places[n]), outputs[places[n]].affine) for n in self._names])
        return results, [np.stack(column) for column in zip(*rows, strict=True)]

    def _agreement(self, wanted: Result, found: Result) -> float:
        if wanted.kind == "raw":
            return output_agreement(self._kind, wanted.values, found.values)
        return result_agreement(self._kind, self._output.index, wanted, found)

    def _accuracy(self, results: Sequence[Result]) -> float:
        assert self._labels is not None
        return float(np.mean([r.top[0].class_id == label for r, label in zip(results, self._labels, strict=True)]))


def _watched(graph: Graph, names: Sequence[str]) -> bytes:
    """The model with these tensors as further outputs."""
    main = graph.main
    extra = [i for i in map(main.index_of, names) if i not in main.outputs]
    part = Subgraph(main.name, main.tensors, main.inputs, [*main.outputs, *extra], main.ops)
    return Graph([part, *graph.subgraphs[1:]], description=graph.description).write()


def _above(values: Floats, floor: Floats | None) -> Floats:
    """What lies too far below the top for an int8 softmax to show is of no interest, however wrong."""
    return values if floor is None else np.maximum(values, floor)


def _typical(errors: Floats) -> float:
    """The square of the mean over the samples' root mean square errors: one loud sample does not outweigh all."""
    each = np.square(errors.reshape(len(errors), -1), dtype=np.float64).mean(axis=1)
    return float(np.mean(np.sqrt(each))) ** 2
