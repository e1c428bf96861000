"""Ops that are not known here, computed by LiteRT as they are: values pass, gradients do not.

What lies before an island is trained only through paths around it, and what lies behind it as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op
from edgeloop.graph.parts import extract
from edgeloop.runtime import open_session

Array = npt.NDArray[Any]


class Island:
    """One op of a graph's main subgraph. `inputs`: the tensors it takes at run time; the rest are constants."""

    def __init__(self, graph: Graph, op: Op, inputs: Sequence[int]) -> None:
        main = graph.main
        self.outputs = [i for i in op.outputs if i >= 0]
        self._shapes = [main.tensors[i].shape for i in inputs]
        self._dtypes = [np.dtype(main.tensors[i].dtype) for i in inputs]
        part, _ = extract(graph, [op], list(inputs), self.outputs)
        part = part.copy()
        part.fix_shapes()
        self._model = part.write()
        self.dtypes = [main.tensors[i].dtype for i in self.outputs]
        self.shapes = [main.tensors[i].shape for i in self.outputs]

    def run(self, arrays: Sequence[Array], batched: Sequence[bool]) -> list[Array]:
        """Arrays with the batch along axis 0 where `batched`; the outputs have it too, if any input has."""
        rows = [
            array.reshape((-1, *shape)) for array, shape in zip(arrays, self._shapes, strict=True)
        ]  # one per sample
        count = max((len(row) for row, many in zip(rows, batched, strict=True) if many), default=1)
        found: list[list[Array]] = [[] for _ in self.outputs]
        with open_session(self._model) as session:
            for sample in range(count):
                for i, (row, many, dtype) in enumerate(zip(rows, batched, self._dtypes, strict=True)):
                    session.set_input(i, np.ascontiguousarray(row[sample if many else 0], dtype))
                session.invoke()
                for i, outputs in enumerate(found):
                    outputs.append(np.array(session.output(i)))
        if not any(batched):
            return [outputs[0] for outputs in found]
        return [
            np.stack(outputs).reshape((-1, *shape[1:]) if shape else (-1,))
            for outputs, shape in zip(found, self.shapes, strict=True)
        ]

    def tensors(self, tf: Any, values: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
        """`run` as a node of TensorFlow's."""
        kinds = [tf.as_dtype(name) for name in self.dtypes]
        results = tf.numpy_function(lambda *arrays: self.run(arrays, batched), list(values), kinds)
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        for result, shape in zip(results, self.shapes, strict=True):
            result.set_shape([None, *shape[1:]] if any(batched) else shape)
        return results
