"""The part of a quantized model that one group of ranges changes, ready to be run again and again.

A range changes the op that computes its tensors and what comes after. What comes before is computed once; the rest is
written once, and a candidate's scales and biases are put into those bytes: a tenth of the time of a whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.graph import Graph, Op, Subgraph, litert
from edgeloop.graph.parts import cut, extract, needed_ops
from edgeloop_converters.passes.codes import operands
from edgeloop_converters.passes.packed import Group, PackedModel, Range, run_codes, weighted_ops

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_MOST_KEPT_BYTES = 256 << 20
"""Of values at the border, over all samples: beyond it the whole model runs."""


@dataclass(frozen=True)
class _Part:
    """Ops to run, in order, and the tensors they need that none of them computes."""

    ops: tuple[Op, ...]
    border: tuple[int, ...]


class Suffix:
    """Outputs `names` of `model` over `samples`, as they are with other ranges of `group`.

    samples: float model inputs, one array per input. The model is left as it is between two calls.
    """

    def __init__(
        self,
        model: PackedModel,
        group: Group,
        names: Sequence[str],
        samples: Sequence[Sequence[Array]],
        threads: int = 1,
    ) -> None:
        self._model, self._group, self._threads = model, group, threads
        main = model.graph.main
        self._wanted = [main.index_of(name) for name in names]
        part = _changed_part(main, group.members, self._wanted)
        if part is None or _bytes(main, part.border) * len(samples) > _MOST_KEPT_BYTES:
            part = _Part(needed_ops(main.ops, self._wanted), tuple(main.inputs))
            self._samples: Sequence[Sequence[Array]] = samples
        else:
            border = [main.tensors[i].name for i in part.border]
            columns = run_codes(cut(model.graph, border), samples, threads)
            self._samples = list(zip(*columns, strict=True))
        model.set_range(group, model.range_of(group))  # gives the biases that follow it memory of their own
        graph, places = extract(model.graph, part.ops, part.border, self._wanted)
        self._patches = _Patches(graph, places)
        self._followers = [*group.members, *_biases(model.graph, group.members)]

    def outputs(self, value: Range) -> list[Floats]:
        """In real units, each [samples, ...]."""
        kept = self._model.range_of(self._group)
        self._model.set_range(self._group, value)
        tensors = self._model.graph.main.tensors
        try:
            self._patches.put({i: tensors[i] for i in self._followers})
            codes = run_codes(self._patches.model, self._samples, self._threads)
            return [dequantize(c, tensors[i].affine) for c, i in zip(codes, self._wanted, strict=True)]
        finally:
            self._model.set_range(self._group, kept)


class _Patches:
    """A written model whose scales, zero points and constants can be replaced by others of the same size."""

    def __init__(self, graph: Graph, places: dict[int, int]) -> None:
        self._flat = bytearray(graph.write())
        self._file = litert.schema().Model.GetRootAs(self._flat, 0)
        self._places = places

    @property
    def model(self) -> bytes:
        return bytes(self._flat)

    def put(self, tensors: dict[int, Any]) -> None:
        """tensors: index in the model that the part was taken from -> what it is now."""
        main = self._file.Subgraphs(0)
        for index, tensor in tensors.items():
            if index not in self._places:
                continue
            entry = main.Tensors(self._places[index])
            quantization = entry.Quantization()
            # These views lie over the bytearray itself, so writing to them writes the file.
            quantization.ScaleAsNumpy()[:] = tensor.quantization.scale
            quantization.ZeroPointAsNumpy()[:] = tensor.quantization.zero_point
            if tensor.data is not None:
                self._file.Buffers(entry.Buffer()).DataAsNumpy()[:] = tensor.data.reshape(-1).view(np.uint8)


def _changed_part(main: Subgraph, members: Iterable[int], wanted: Sequence[int]) -> _Part | None:
    """None where it does not lead to all that is wanted, or where state would be cut off."""
    dirty = set(members)
    changed = []
    for op in main.ops:
        if dirty.intersection(op.inputs) or dirty.intersection(op.outputs):
            changed.append(op)
            dirty.update(op.outputs)
    if not dirty.issuperset(wanted) or any(t.is_variable for t in main.tensors):
        return None
    ops = needed_ops(changed, wanted)
    made = {i for op in ops for i in op.outputs}
    read = dict.fromkeys(i for op in ops for i in op.inputs if i >= 0 and i not in made)
    border = tuple(i for i in read if not main.tensors[i].is_constant)
    return _Part(ops, border) if border else None


def _biases(graph: Graph, members: Iterable[int]) -> list[int]:
    """Of the ops that read a member: their scale is the product of the input's and the weight's."""
    read = set(members)
    return [
        op.inputs[operands(op)[1]]
        for op in weighted_ops(graph)
        if read.intersection(op.inputs) and operands(op)[1] < len(op.inputs) and op.inputs[operands(op)[1]] >= 0
    ]


def _bytes(main: Subgraph, indices: Iterable[int]) -> int:
    return sum(int(np.prod(main.tensors[i].shape)) * 4 for i in indices)
