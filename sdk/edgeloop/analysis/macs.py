"""Multiply-accumulates of one inference, by op. A table: builtin name -> formula over shapes.

Counted are the ops that multiply by weights or multiply matrices; additions, activations, pooling and data movement
count 0, as in the published figures (MobileNetV2: 300 million). A custom op's work cannot be seen and counts 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edgeloop.graph import Graph, Op, Subgraph, Tensor

_Formula = Callable[[Op, Subgraph], int]


class MacCounter:
    """Multiply-accumulates of a graph's ops. Subgraphs are counted once; one that runs itself is 0 inside itself."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[int, int] = {}

    def op(self, op: Op, subgraph: Subgraph) -> int:
        """One run of `op`. Of two branches the dearer counts, and a loop's body once: how often is not in the file."""
        bodies = _BODIES.get(op.name)
        if bodies is not None:
            work = [self.subgraph(op.option(name)) for name in bodies]
            return max(work) if op.name == "IF" else sum(work)
        formula = MACS.get(op.name)
        return 0 if formula is None or op.custom else formula(op, subgraph)

    def subgraph(self, index: int) -> int:
        """One run of a subgraph other than the main one; 0 for an index that is none."""
        if not 0 < index < len(self._graph.subgraphs):
            return 0
        if index not in self._known:
            self._known[index] = 0
            subgraph = self._graph.subgraphs[index]
            self._known[index] = sum(self.op(op, subgraph) for op in subgraph.ops)
        return self._known[index]


def _input(op: Op, subgraph: Subgraph, position: int) -> Tensor | None:
    if position >= len(op.inputs) or op.inputs[position] < 0:
        return None
    return subgraph.tensors[op.inputs[position]]


def _shape(op: Op, subgraph: Subgraph, position: int) -> tuple[int, ...]:
    """Of an input; empty where it is not there. Extents that are not known count as 1."""
    tensor = _input(op, subgraph, position)
    return () if tensor is None else tuple(max(extent, 1) for extent in tensor.shape)


def _outputs(op: Op, subgraph: Subgraph) -> int:
    """Elements of the first output."""
    return subgraph.tensors[op.outputs[0]].element_count if op.outputs and op.outputs[0] >= 0 else 0


def _convolution(op: Op, subgraph: Subgraph) -> int:
    """Weights [out, height, width, in / groups]."""
    return _outputs(op, subgraph) * math.prod(_shape(op, subgraph, 1)[1:])


def _depthwise(op: Op, subgraph: Subgraph) -> int:
    """Weights [1, height, width, out]."""
    return _outputs(op, subgraph) * math.prod(_shape(op, subgraph, 1)[1:3])


def _transposed(op: Op, subgraph: Subgraph) -> int:
    """Inputs: output shape, weights [out, height, width, in], activations. Each value meets every tap and filter."""
    return math.prod(_shape(op, subgraph, 2)) * math.prod(_shape(op, subgraph, 1)[:3])


def _convolution_3d(op: Op, subgraph: Subgraph) -> int:
    """Weights [depth, height, width, in, out]."""
    return _outputs(op, subgraph) * math.prod(_shape(op, subgraph, 1)[:4])


def _transposed_3d(op: Op, subgraph: Subgraph) -> int:
    """Inputs: output shape, weights [depth, height, width, out, in], activations."""
    return math.prod(_shape(op, subgraph, 2)) * math.prod(_shape(op, subgraph, 1)[:4])


def _dense(op: Op, subgraph: Subgraph) -> int:
    """Weights [units, in]."""
    weights = _shape(op, subgraph, 1)
    return _outputs(op, subgraph) * weights[-1] if weights else 0


def _matrices(op: Op, subgraph: Subgraph) -> int:
    """[..., rows, inner] x [..., inner, columns], the first transposed with `adjX`."""
    left = _shape(op, subgraph, 0)
    if len(left) < 2:
        return 0
    return _outputs(op, subgraph) * left[-2 if op.option("adjX") else -1]


def _recurrent(op: Op, subgraph: Subgraph) -> int:
    """Every weight matrix once per step and sample, as the kernels do: [units, in] and [units, units] per gate,
    projection.
    """
    weights = 0
    for position in range(1, len(op.inputs)):
        tensor = _input(op, subgraph, position)
        if tensor is not None and tensor.is_constant and len(tensor.shape) == 2:
            weights += tensor.element_count
    activations = _shape(op, subgraph, 0)  # [batch, in], or [batch, time, in] in any order of the first two
    return weights * math.prod(activations[:-1])


MACS: Mapping[str, _Formula] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matrices,
    "RNN": _recurrent,
    "LSTM": _recurrent,
    "SVDF": _recurrent,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent,
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent,
}

_BODIES: Mapping[str, tuple[str, ...]] = {
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "CALL": ("subgraph",),
    "STABLEHLO_COMPOSITE": ("decompositionSubgraphIndex",),
    "STABLEHLO_WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
}
"""Control flow: fields of its options that name subgraphs."""
