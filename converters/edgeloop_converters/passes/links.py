"""Pairs of layers between which channels can be scaled without changing what a float model computes.

f(s x) = s f(x) for s > 0 holds for a ReLU and for ops that only move or average values, so a channel may leave one
layer s times smaller and enter the next through weights s times larger (Nagel et al. 2019, section 4.1). It does not
hold for a ReLU6, and not where a third op (a skip connection) reads the tensor.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op, Subgraph, Tensor

Floats = npt.NDArray[np.float32]

LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_HOMOGENEOUS = frozenset({"RELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "PAD", "RESHAPE"})
_NONE, _RELU = 0, 1


@dataclass(frozen=True)
class Link:
    """between: the tensors from the producer's output to the consumer's input, all with `channels` as the last axis
    (flattened ones a multiple of it).
    """

    producer: Op
    consumer: Op
    between: tuple[int, ...]
    channels: int


def links(graph: Graph) -> tuple[Link, ...]:
    """Of the main subgraph of a float model, in the order of their producers."""
    main = graph.main
    uses = Counter(i for op in main.ops for i in op.inputs)
    readers = {i: op for op in main.ops for i in op.inputs}
    found = []
    for op in main.ops:
        if op.name not in LAYERS or not _is_homogeneous(op) or not _own_constants(graph, op, uses):
            continue
        link = _follow(graph, op, uses, readers)
        if link is not None and _own_constants(graph, link.consumer, uses):
            found.append(link)
    return tuple(found)


def _follow(graph: Graph, producer: Op, uses: Counter[int], readers: dict[int, Op]) -> Link | None:
    main = graph.main
    index = producer.outputs[0]
    channels, between = main.tensors[index].shape[-1], [index]
    while True:
        if uses[index] != 1 or index in main.outputs or main.tensors[index].dtype != "float32":
            return None
        reader = readers[index]
        if reader.name in LAYERS:
            fits = reader.inputs[0] == index and _fits(graph, reader, channels)
            return Link(producer, reader, tuple(between), channels) if fits else None
        if not (_is_homogeneous(reader) and reader.name in _HOMOGENEOUS and _keeps_channels(reader, main, channels)):
            return None
        index = reader.outputs[0]
        between.append(index)


def _is_homogeneous(op: Op) -> bool:
    return op.option("fusedActivationFunction", _NONE) in (_NONE, _RELU)


def _keeps_channels(op: Op, main: Subgraph, channels: int) -> bool:
    before, after = main.tensors[op.inputs[0]].shape, main.tensors[op.outputs[0]].shape
    if op.name == "RESHAPE":  # row-major: the channel still runs fastest
        return bool(after) and after[-1] % channels == 0 and (len(after) > 1 and after[0] == before[0])
    if not after or after[-1] != before[-1]:
        return False
    if op.name not in ("MEAN", "PAD"):
        return True
    how = main.tensors[op.inputs[1]].data
    if how is None:
        return False
    if op.name == "PAD":
        return not np.asarray(how).reshape(-1, 2)[-1].any()
    return not np.isin(np.asarray(how).ravel(), (-1, len(before) - 1)).any()


def _fits(graph: Graph, consumer: Op, channels: int) -> bool:
    weight = graph.constant(consumer, 1)
    if weight is None:
        return False
    columns = weight.shape[-1]
    if consumer.name == "FULLY_CONNECTED":
        return columns % channels == 0
    return columns == channels and consumer.option("depthMultiplier", 1) == 1


def _own_constants(graph: Graph, op: Op, uses: Counter[int]) -> bool:
    """Whether weights and bias are float constants that no other op reads."""
    weight = graph.constant(op, 1)
    if weight is None or weight.dtype != "float32" or uses[op.inputs[1]] != 1:
        return False
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return True
    bias = graph.constant(op, 2)
    return bias is not None and bias.dtype == "float32" and uses[op.inputs[2]] == 1


def scale_channels(graph: Graph, link: Link, factors: Floats) -> None:
    """Divide the producer's channels by `factors` [channels], all > 0, and multiply the consumer's weights by them."""
    weight, bias = _constant(graph, link.producer, 1), graph.constant(link.producer, 2)
    weight.data = divided(link.producer, _values(weight), factors)
    if bias is not None:
        bias.data = np.asarray(_values(bias) / factors, np.float32)
    taken = _constant(graph, link.consumer, 1)
    taken.data = multiplied(_values(taken), factors)


def divided(producer: Op, weights: Any, factors: Floats) -> Floats:
    """The producer's weights with each output channel divided by its factor."""
    outputs_last = producer.name == "DEPTHWISE_CONV_2D"
    shape = factors.shape if outputs_last else (-1, *[1] * (weights.ndim - 1))
    return np.asarray(weights / factors.reshape(shape), np.float32)


def multiplied(weights: Any, factors: Floats) -> Floats:
    """The consumer's weights with each input channel multiplied by its factor."""
    return np.asarray(weights * np.tile(factors, weights.shape[-1] // factors.size), np.float32)


def _constant(graph: Graph, op: Op, position: int) -> Tensor:
    tensor = graph.constant(op, position)
    assert tensor is not None
    return tensor


def _values(tensor: Tensor) -> Any:
    assert tensor.data is not None
    return tensor.data
