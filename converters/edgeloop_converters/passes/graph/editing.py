"""The main subgraph as something to rewrite: who makes and reads a tensor, taking ops out, new constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op, Subgraph, Tensor

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

NO_ACTIVATION = 0
SAME, VALID = 0, 1


class Editor:
    """Of a graph that is the caller's own; rules change it in place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def main(self) -> Subgraph:
        return self.graph.main

    def shape(self, index: int) -> tuple[int, ...]:
        return self.main.tensors[index].shape

    def data(self, index: int) -> Array | None:
        """Of a constant; None for what is computed, and for -1."""
        return None if index < 0 else self.main.tensors[index].data

    def floats(self, op: Op, position: int) -> Floats | None:
        """Constant float32 input of an op; None where it is none."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            return None
        tensor = self.main.tensors[op.inputs[position]]
        return None if tensor.data is None or tensor.dtype != "float32" else np.asarray(tensor.data, np.float32)

    def is_float(self, op: Op) -> bool:
        """Whether its first output is float32."""
        return bool(op.outputs) and self.main.tensors[op.outputs[0]].dtype == "float32"

    def uses(self, index: int) -> int:
        """Ops that read it, each time that they do, and model outputs."""
        return sum(op.inputs.count(index) for op in self.main.ops) + self.main.outputs.count(index)

    def maker(self, index: int) -> Op | None:
        return next((op for op in self.main.ops if index in op.outputs), None)

    def only_reader(self, index: int) -> Op | None:
        """The op that reads it, where that is the only use of it."""
        if self.uses(index) != 1:
            return None
        return next((op for op in self.main.ops if index in op.inputs), None)

    def only_maker(self, index: int) -> Op | None:
        """The op that makes it, where it has one use."""
        return self.maker(index) if self.uses(index) == 1 else None

    def add(self, name: str, data: Array) -> int:
        """A new constant."""
        return self.main.add_tensor(Tensor(name, data.shape, str(data.dtype), data))

    def set_constant(self, op: Op, position: int, data: Array) -> None:
        """In a tensor of its own: others may read the old one. A missing input is appended."""
        old = op.inputs[position] if position < len(op.inputs) else -1
        name = self.main.tensors[old].name if old >= 0 else f"{self.main.tensors[op.outputs[0]].name}/{position}"
        op.inputs[position : position + 1] = [self.add(name, np.ascontiguousarray(data))]

    def remove(self, op: Op) -> None:
        self.main.ops = [other for other in self.main.ops if other is not op]

    def insert_before(self, op: Op, new: Op) -> None:
        at = next(i for i, other in enumerate(self.main.ops) if other is op)
        self.main.ops.insert(at, new)

    def bypass(self, op: Op, source: int) -> bool:
        """Take out an op whose first output is what `source` holds. False where both are the model's own borders."""
        out = op.outputs[0]
        if out in self.main.outputs:
            maker = self.maker(source)
            if maker is None or self.uses(source) != 1:
                return False
            self.remove(op)
            maker.outputs = [out if i == source else i for i in maker.outputs]
            return True
        self.remove(op)
        for other in self.main.ops:
            other.inputs = [source if i == out else i for i in other.inputs]
        return True


def activation(op: Op) -> int:
    return op.option("fusedActivationFunction", NO_ACTIVATION)


def is_linear(op: Op) -> bool:
    """Whether no activation is fused into it."""
    return activation(op) == NO_ACTIVATION


def key_of(op: Op) -> tuple[object, ...]:
    """Equal for ops that do the same with the same inputs."""
    options = () if op.options is None else tuple(sorted((k, _plain(v)) for k, v in vars(op.options).items()))
    return (op.name, op.custom, tuple(op.inputs), len(op.outputs), options, op.custom_options)


def _plain(value: Any) -> str:
    return repr(value.tolist()) if isinstance(value, np.ndarray) else repr(value)
