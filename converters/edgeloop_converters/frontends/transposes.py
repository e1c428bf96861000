"""TRANSPOSE ops that the reduction behind them makes needless: `x.mean((2, 3))` of PyTorch, channels last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeloop.graph import Graph, Subgraph, Tensor

_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})


def fold_transposes(graph: Graph) -> int:
    """Let reductions read the tensor before a TRANSPOSE, over its axes; how many. Numbers stay the same.

    A TRANSPOSE that nobody reads any more goes.
    """
    main = graph.main
    producers = {index: op for op in main.ops for index in op.outputs}
    folded = 0
    for op in main.ops:
        before = producers.get(op.inputs[0]) if op.name in _REDUCTIONS and len(op.inputs) == 2 else None
        if before is None or before.name != "TRANSPOSE" or getattr(op.options, "keepDims", True):
            continue
        axes, order = _constant(main, op.inputs[1]), _constant(main, before.inputs[1])
        if axes is None or order is None:
            continue
        turned = turned_axes(axes, order)
        if turned is None:
            continue
        name = f"{main.tensors[op.outputs[0]].name}_axes"
        op.inputs = [before.inputs[0], main.add_tensor(Tensor(name, (len(turned),), "int32", np.array(turned, "i4")))]
        folded += 1
    if folded:
        read = {index for op in main.ops for index in op.inputs} | set(main.outputs)
        main.ops = [op for op in main.ops if op.name != "TRANSPOSE" or op.outputs[0] in read]
    return folded


def turned_axes(axes: Sequence[int], order: Sequence[int]) -> tuple[int, ...] | None:
    """The axes before a TRANSPOSE by `order`, or None where what is left would come in another order."""
    rank = len(order)
    reduced = {axis % rank for axis in axes}
    left = [order[i] for i in range(rank) if i not in reduced]
    return tuple(sorted(order[i] for i in reduced)) if left == sorted(left) else None


def _constant(subgraph: Subgraph, index: int) -> list[int] | None:
    data = subgraph.tensors[index].data if index >= 0 else None
    return None if data is None else [int(v) for v in np.asarray(data).reshape(-1)]
