"""PyTorch pads max pooling with minus infinity, which no int8 tensor holds. Two paddings give the same numbers: zeros
over values that are not negative, and a mirror over any others, whose copies lie in the same window as what they copy.
"""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op, Subgraph, make_options

_NOT_NEGATIVE = frozenset({"RELU", "RELU6", "LOGISTIC", "SOFTMAX"})
_FUSED_RELUS = (1, 3)  # ActivationFunctionType RELU and RELU6
_SYMMETRIC = 1  # MirrorPadMode: the border itself is copied too


def pad_with_numbers(graph: Graph) -> int:
    """PADV2 by -inf before MAX_POOL_2D becomes PAD or MIRROR_PAD; how many. Numbers stay the same.

    Zeros: every window holds at least one real value, and that is not below zero. Mirror: of a window of k that reaches
    p <= k / 2 over the border, the p values beyond it are copies of the p before it, which are in the window too.
    """
    main = graph.main
    producers, consumers = graph.producers(), graph.consumers()
    changed = 0
    for op in main.ops:
        if op.name != "PADV2" or not _is_minus_infinity(main.tensors[op.inputs[2]].data):
            continue
        readers = [main.ops[i] for i in consumers.get(op.outputs[0], ())]
        if not readers or any(r.name != "MAX_POOL_2D" for r in readers) or op.outputs[0] in main.outputs:
            continue
        before = producers.get(op.inputs[0])
        if before is not None and _is_not_negative(main.ops[before]):
            op.name, op.options = "PAD", None
        elif all(_holds_copies(main, op, reader) for reader in readers):
            op.name, op.options = "MIRROR_PAD", make_options("MirrorPadOptions", mode=_SYMMETRIC)
        else:
            continue
        op.inputs, op.version = op.inputs[:2], 1
        changed += 1
    return changed


def _is_minus_infinity(data: np.ndarray | None) -> bool:
    return data is not None and data.size == 1 and float(data.reshape(-1)[0]) < -1e30


def _is_not_negative(op: Op) -> bool:
    return op.name in _NOT_NEGATIVE or getattr(op.options, "fusedActivationFunction", 0) in _FUSED_RELUS


def _holds_copies(main: Subgraph, pad: Op, pool: Op) -> bool:
    pads, shape = main.tensors[pad.inputs[1]].data, main.tensors[pad.inputs[0]].shape
    if pads is None or pads.shape != (4, 2) or len(shape) != 4:
        return False
    windows = (0, pool.options.filterHeight, pool.options.filterWidth, 0)
    return all(2 * int(p.max()) <= k and int(p.max()) <= n for p, k, n in zip(pads, windows, shape, strict=True))
