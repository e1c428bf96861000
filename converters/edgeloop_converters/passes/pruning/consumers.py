"""The layers that read a group of channels, as least-squares problems."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op, Tensor
from edgeloop_converters.passes.patches import as_rows, as_tensor
from edgeloop_converters.passes.pruning.channels import Channels, Group
from edgeloop_converters.passes.pruning.elimination import Consumer
from edgeloop_converters.passes.pruning.seen import Samples, input_moments

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LINEAR = frozenset({"CONV_2D", "FULLY_CONNECTED"})


def column_classes(graph: Graph, channels: Channels, op: Op) -> Ints:
    """[columns] The class that each column of the layer's weight matrix multiplies; see `patches.as_rows`."""
    weight = graph.main.tensors[op.inputs[1]]
    last = len(weight.shape) - 1
    inner = next(f.classes for f in channels.followers if f.tensor == op.inputs[1] and f.axis == last)
    return np.tile(inner, int(np.prod(weight.shape[1:])) // inner.size)


def matrix_of(graph: Graph, op: Op) -> Doubles:
    """Weights and bias as [columns + 1, outputs]: rows with a one at their end times this are the layer's output."""
    rows = as_rows(op, data_of(graph.constant(op, 1))).astype(np.float64)
    bias = graph.constant(op, 2)
    last = np.zeros(len(rows)) if bias is None else data_of(bias).astype(np.float64)
    return np.concatenate([rows.T, last[None]])


def put_matrix(graph: Graph, op: Op, matrix: Doubles) -> None:
    """The inverse of `matrix_of`, in place; a layer without a bias gets one. The constants must be the op's own."""
    weight = graph.constant(op, 1)
    assert weight is not None
    weight.data = np.ascontiguousarray(as_tensor(op, matrix[:-1].T, weight.shape), np.float32)
    put_bias(graph, op, matrix[-1])


def put_bias(graph: Graph, op: Op, values: Doubles) -> None:
    """In place; float32 [outputs]."""
    bias, fresh = graph.constant(op, 2), np.asarray(values, np.float32)
    if bias is not None:
        bias.data = fresh
        return
    name = f"{graph.main.tensors[op.outputs[0]].name}/bias"
    op.inputs[2:3] = [graph.main.add_tensor(Tensor(name, fresh.shape, "float32", fresh))]


def data_of(tensor: Tensor | None) -> npt.NDArray[np.float32]:
    assert tensor is not None
    assert tensor.data is not None
    return np.asarray(tensor.data, np.float32)


def group_consumers(
    graph: Graph, channels: Channels, samples: Samples, *, rows: int, seed: int, threads: int
) -> dict[str, dict[int, Consumer]]:
    """Name of a group -> op index -> that reader. Groups that only other layers read have none."""
    ops = graph.main.ops
    read = sorted({i for g in channels.groups for i in g.consumers if ops[i].name in LINEAR})
    moments = input_moments(graph, [ops[i] for i in read], samples, rows=rows, seed=seed, threads=threads)
    by_op = dict(zip(read, moments, strict=True))
    found: dict[str, dict[int, Consumer]] = {}
    for group in channels.groups:
        for i in (i for i in group.consumers if i in by_op):
            blocks = _blocks(column_classes(graph, channels, ops[i]), group)
            if blocks is not None:
                found.setdefault(group.name, {})[i] = Consumer(by_op[i], matrix_of(graph, ops[i]), blocks)
    return found


def _blocks(columns: Ints, group: Group) -> Ints | None:
    each = [np.flatnonzero(columns == c) for c in group.classes.tolist()]
    if not each or not each[0].size or len({block.size for block in each}) > 1:
        return None
    return np.stack(each)
