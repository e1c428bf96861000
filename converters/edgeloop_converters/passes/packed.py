"""A quantized model whose constants can be tried out: ranges, weights and biases set in place, then run.

A candidate costs a few milliseconds (scales edited, biases requantized, bytes written), the packer half a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize, quantize
from edgeloop.graph import Graph, Op, Quantization
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.codes import WEIGHTED_OPS, WeightCodes, float_biases, operands, put_codes

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Range = tuple[float, float]

_FIXED_OUTPUT = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX", "L2_NORMALIZATION"})
_SQUASHING = frozenset({"SOFTMAX", "LOGISTIC", "LOG_SOFTMAX"})
_SMALLEST = 1e-9


def int8_quantization(low: float, high: float) -> Quantization:
    """Asymmetric int8 parameters of a range, which is widened to hold 0 (Jacob et al. 2018, section 3)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, _SMALLEST) / 255
    return Quantization.per_tensor(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


@dataclass(frozen=True)
class Group:
    """Tensors that share one scale, because an op between them only moves codes. `name`: the first one's."""

    name: str
    members: tuple[int, ...]


class PackedModel:
    """float_model, and packed: the same model quantized with `ranges`. The graph is this object's own."""

    def __init__(self, float_model: bytes, packed: bytes, ranges: Ranges) -> None:
        self.float_graph = Graph.read(float_model)
        self.graph = Graph.read(packed)
        self.ranges: dict[str, Range] = dict(ranges.tensors)
        self.weights: dict[str, WeightCodes] = {}
        self.biases: dict[str, Floats] = {}
        self._sources = float_biases(self.graph, self.float_graph)
        self.groups = _groups(self.graph, self.ranges)

    def copy(self) -> PackedModel:
        """Independent of this one."""
        other = object.__new__(PackedModel)
        other.float_graph, other.graph = self.float_graph, self.graph.copy()
        other.ranges, other.weights, other.biases = dict(self.ranges), dict(self.weights), dict(self.biases)
        other._sources, other.groups = self._sources, self.groups
        return other

    def range_of(self, group: Group) -> Range:
        return self.ranges[group.name]

    def set_range(self, group: Group, value: Range) -> None:
        """All tensors of the group get it; the biases of the ops that read them follow."""
        quantization = int8_quantization(*value)
        for index in group.members:
            tensor = self.graph.main.tensors[index]
            self.ranges[tensor.name] = value
            tensor.quantization = quantization
        self._requantize_biases(frozenset(group.members))

    def set_weight(self, name: str, codes: WeightCodes) -> None:
        self.weights[name] = codes
        put_codes(self.graph, self.float_graph, {name: codes}, self.biases)

    def set_bias(self, name: str, values: Floats) -> None:
        """name: the float model's."""
        self.biases[name] = values
        self._requantize_biases(None)

    def write(self) -> bytes:
        return self.graph.write()

    def _requantize_biases(self, inputs: frozenset[int] | None) -> None:
        """Of the ops that read one of `inputs`; None: all."""
        for op in weighted_ops(self.graph):
            position = operands(op)[1]
            source = op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]
            if position >= len(op.inputs) or (inputs is not None and source not in inputs):
                continue
            origin = self._sources.get(op.inputs[position])
            weight = self.graph.main.tensors[op.inputs[operands(op)[0]]].quantization
            if origin is None or weight is None:
                continue
            bias = self.graph.main.tensors[op.inputs[position]]
            scales = (self.graph.main.tensors[source].affine.scale * weight.scale.astype(np.float64)).astype(np.float32)
            value = np.asarray(self.biases.get(origin.name, origin.data), np.float64)
            bias.data = np.clip(np.rint(value / scales), -(2**31), 2**31 - 1).astype(np.int32)
            bias.quantization = Quantization(scales, np.zeros(scales.size, np.int64), 0)


def weighted_ops(graph: Graph) -> list[Op]:
    """Ops of the main subgraph with int8 weights."""
    return [
        op
        for op in graph.main.ops
        if op.name in WEIGHTED_OPS
        and (weight := graph.constant(op, operands(op)[0])) is not None
        and weight.dtype == "int8"
        and weight.quantization is not None
        and weight.quantization.scale.size > 0
    ]


def score_names(graph: Graph) -> tuple[str, ...]:
    """The tensors on which a quantized model is compared with float: its outputs, before a softmax or sigmoid.

    Codes of a softmax have steps of 1/256 and say little; its input says all.
    """
    producers, names = graph.producers(), []
    for index in graph.main.outputs:
        op = graph.main.ops[producers[index]] if index in producers else None
        names.append(graph.main.tensors[op.inputs[0] if op is not None and op.name in _SQUASHING else index].name)
    return tuple(dict.fromkeys(names))


def run_codes(model: bytes, samples: Iterable[Sequence[Array]], threads: int = 1) -> list[Array]:
    """Outputs of a model as it gives them, stacked over the samples (inputs of its dtype, or float ones)."""
    rows: list[list[Array]] = []
    with open_session(model, threads=threads) as session:
        infos = session.inputs
        for arrays in samples:
            for i, (info, array) in enumerate(zip(infos, arrays, strict=True)):
                are_codes = array.dtype == info.dtype
                session.set_input(i, array if are_codes else quantize(array, info.affine, info.dtype))
            session.invoke()
            rows.append([session.output(i) for i in range(len(session.outputs))])
    return [np.stack(column) for column in zip(*rows, strict=True)]


def run_real(model: bytes, samples: Iterable[Sequence[Array]], threads: int = 1) -> list[Floats]:
    """`run_codes` in real units."""
    affines = [t.affine for t in Graph.read(model).outputs]
    return [dequantize(codes, a) for codes, a in zip(run_codes(model, samples, threads), affines, strict=True)]


def _groups(graph: Graph, ranges: Mapping[str, Range]) -> tuple[Group, ...]:
    """In the order in which they are computed; without those whose range must stay (borders, softmax outputs)."""
    main = graph.main
    parent = list(range(len(main.tensors)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    fixed = {*main.inputs, *main.outputs}
    uses = Counter(i for op in main.ops for i in op.inputs)
    for op in main.ops:
        if op.name in WEIGHTED_OPS and any(uses[i] > 1 for i in op.inputs[operands(op)[1] :][:1] if i >= 0):
            fixed.update(op.inputs)  # its bias is another op's too and cannot follow a new scale
        actives = [i for i in (*op.inputs, *op.outputs) if i >= 0 and main.tensors[i].affine.is_quantized]
        if op.name in _FIXED_OUTPUT:
            fixed.update(op.outputs)
        for source in (i for i in actives if i in op.inputs):
            for result in (i for i in actives if i in op.outputs):
                if main.tensors[source].affine == main.tensors[result].affine:
                    parent[max(root(source), root(result))] = min(root(source), root(result))
    order = [i for op in main.ops for i in op.outputs if i >= 0]
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(root(index), []).append(index)
    for op in main.ops:
        for index in op.inputs:
            if index >= 0 and root(index) in members and index not in members[root(index)]:
                members[root(index)].append(index)
    return tuple(
        Group(main.tensors[indices[0]].name, tuple(indices))
        for indices in members.values()
        if not fixed & set(indices) and all(_is_free(graph, i, ranges) for i in indices)
    )


def _is_free(graph: Graph, index: int, ranges: Mapping[str, Range]) -> bool:
    tensor = graph.main.tensors[index]
    return tensor.dtype == "int8" and tensor.affine.is_quantized and not tensor.is_constant and tensor.name in ranges
