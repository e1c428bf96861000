"""What crosses between a delegate and the rest of a model, and where numbers change between float and integer codes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgeloop.graph import NO_TENSOR, Op, Subgraph
from edgeloop.graph.dtypes import FLOAT_TYPES

_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class Borders:
    """Of one delegate in one inference.

    conversions: ops that turn floats into codes or back. requantizations: ops that turn codes into other codes.
    partitions: programs the delegate makes of its ops. crossings: tensors that one side computes (or that are the
    model's inputs) and the other reads (or that are its outputs); entering_bytes and leaving_bytes: theirs, to and from
    the delegate.
    """

    conversions: int
    requantizations: int
    partitions: int
    crossings: int
    entering_bytes: int
    leaving_bytes: int


def find_borders(subgraph: Subgraph, taken: Collection[int]) -> Borders:
    """`taken`: indices of the ops that the delegate runs. Model inputs and outputs are the CPU's."""
    floats = [_is_conversion(op, subgraph) for op in subgraph.ops if op.name in _CONVERSIONS]
    producers, consumers = subgraph.producers(), subgraph.consumers()
    entering: set[int] = set()
    leaving: set[int] = set()
    for index in taken:
        op = subgraph.ops[index]
        for tensor in op.inputs:
            if tensor != NO_TENSOR and not _is_stored(subgraph, tensor) and producers.get(tensor, -1) not in taken:
                entering.add(tensor)
        for tensor in op.outputs:
            readers = consumers.get(tensor, [])
            if tensor in subgraph.outputs or any(reader not in taken for reader in readers):
                leaving.add(tensor)
    return Borders(
        conversions=sum(floats),
        requantizations=len(floats) - sum(floats),
        partitions=count_partitions(subgraph, taken),
        crossings=len(entering) + len(leaving),
        entering_bytes=sum(subgraph.tensors[i].byte_count for i in entering),
        leaving_bytes=sum(subgraph.tensors[i].byte_count for i in leaving),
    )


def count_partitions(subgraph: Subgraph, taken: Collection[int]) -> int:
    """Programs that TFLite makes of `taken`: as many ops of one side as can run go into one round, then those of the
    other side, and so on (its PartitionGraphIntoIndependentNodeSubsets).
    """
    if not subgraph.ops:
        return 0
    producers = subgraph.producers()
    first = next((i for i, op in enumerate(subgraph.ops) if producers.keys().isdisjoint(op.inputs)), 0)
    starts_taken = first in taken
    rounds: dict[int, int] = {}
    for index, op in enumerate(subgraph.ops):
        before = [rounds[producers[t]] for t in op.inputs if producers.get(t, index) < index]
        earliest = max(before, default=0)
        is_own_side = (earliest % 2 == 0) == ((index in taken) == starts_taken)
        rounds[index] = earliest if is_own_side else earliest + 1
    return len({rounds[index] for index in taken})


def _is_stored(subgraph: Subgraph, tensor: int) -> bool:
    return subgraph.tensors[tensor].is_constant or subgraph.tensors[tensor].is_variable


def _is_conversion(op: Op, subgraph: Subgraph) -> bool:
    tensors = [*subgraph.input_tensors(op), *subgraph.output_tensors(op)]
    return any(t is not None and t.dtype in FLOAT_TYPES for t in tensors)
