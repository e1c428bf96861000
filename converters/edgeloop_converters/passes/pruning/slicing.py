"""Taking channels out of a graph: every tensor and constant that has them gets narrower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Subgraph, Tensor
from edgeloop_converters.passes.pruning.channels import Channels

Bools = npt.NDArray[np.bool_]


def kept_classes(channels: Channels, kept: Mapping[str, Sequence[int]]) -> Bools:
    """[classes] True for what stays. kept: name of a group -> positions in it that stay; groups not named stay whole.

    Raises UsageError for a group that would lose all channels, and for positions that are none.
    """
    stay = np.ones(channels.count, bool)
    for name, positions in kept.items():
        group = channels.group(name)
        chosen = np.asarray(sorted(set(positions)), np.int64)
        if not chosen.size or chosen[0] < 0 or chosen[-1] >= group.width:
            raise UsageError(f"group '{name}' has channels 0 to {group.width - 1}, and one must stay")
        stay[np.delete(group.classes, chosen)] = False
    return stay


def kept_channels(graph: Graph, channels: Channels, stay: Bools) -> dict[str, list[int]]:
    """Name of a tensor -> positions of its channels that stay."""
    names = graph.main.tensors
    return {names[index].name: np.flatnonzero(stay[classes]).tolist() for index, classes in channels.of.items()}


def slice_channels(graph: Graph, channels: Channels, stay: Bools) -> Graph:
    """A graph of its own without the classes whose `stay` is False; ops, and names of tensors, are the same."""
    sliced = graph.copy()
    main = sliced.main
    for follower in channels.followers:
        tensor = main.tensors[follower.tensor]
        assert tensor.data is not None
        mask = stay[follower.classes]
        if not mask.all():
            tensor.data = np.ascontiguousarray(np.compress(mask, tensor.data, axis=follower.axis))
            tensor.shape = tensor.data.shape
            tensor.shape_signature = None
    for index, classes in channels.of.items():
        tensor = main.tensors[index]
        if not tensor.is_constant and 0 not in (tensor.element_count, len(tensor.shape)):
            _narrow(tensor, int(stay[classes].sum()))
    for op in main.ops:
        _restate_shape(main, op)
    return sliced


def _narrow(tensor: Tensor, width: int) -> None:
    if tensor.shape[-1] == width:
        return
    tensor.shape = (*tensor.shape[:-1], width)
    if tensor.shape_signature is not None and tensor.shape_signature[-1] >= 0:
        tensor.shape_signature = (*tensor.shape_signature[:-1], width)


_SHAPE_AT = {"RESHAPE": 1, "TRANSPOSE_CONV": 0}
"""Ops that are told the shape of their output, and by which input."""


def _restate_shape(main: Subgraph, op: Op) -> None:
    """The shape an op is told, as its output has it now; in a constant of its own, because others may read the old."""
    position = _SHAPE_AT.get(op.name)
    if position is None or op.custom:
        return
    shape = main.tensors[op.outputs[0]].shape
    if position < len(op.inputs) and (index := op.inputs[position]) >= 0:
        tensor = main.tensors[index]
        if tensor.data is not None:
            told = np.asarray(tensor.data, np.int32).ravel()
            now = np.where(told < 0, told, np.asarray(shape, np.int32)) if told.size == len(shape) else told
            if not np.array_equal(now, told):
                fresh = Tensor(
                    f"{tensor.name}/pruned_{op.outputs[0]}",
                    tensor.shape,
                    tensor.dtype,
                    now.astype(tensor.data.dtype).reshape(tensor.shape),
                )
                op.inputs[position] = main.add_tensor(fresh)
    told_too = getattr(op.options, "newShape", None)
    if told_too is not None and len(told_too) == len(shape):
        op.options.newShape = [old if old < 0 else int(new) for old, new in zip(told_too, shape, strict=True)]
