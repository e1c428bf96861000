"""PyTorch pads max pooling with minus infinity, which no int8 tensor holds; over values from 0 a zero does the same."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op

_NOT_NEGATIVE = frozenset({"RELU", "RELU6", "LOGISTIC", "SOFTMAX"})
_FUSED_RELUS = (1, 3)  # ActivationFunctionType RELU and RELU6


def pad_with_zero(graph: Graph) -> int:
    """PADV2 by -inf between what cannot be negative and MAX_POOL_2D becomes PAD; how many. Numbers stay the same.

    Every window holds at least one real value, and that is not below zero.
    """
    main = graph.main
    producers, consumers = graph.producers(), graph.consumers()
    changed = 0
    for op in main.ops:
        if op.name != "PADV2" or not _is_minus_infinity(main.tensors[op.inputs[2]].data):
            continue
        readers = [main.ops[i] for i in consumers.get(op.outputs[0], ())]
        before = producers.get(op.inputs[0])
        if before is None or not _is_not_negative(main.ops[before]) or op.outputs[0] in main.outputs:
            continue
        if readers and all(reader.name == "MAX_POOL_2D" for reader in readers):
            op.name, op.options, op.inputs, op.version = "PAD", None, op.inputs[:2], 1
            changed += 1
    return changed


def _is_minus_infinity(data: np.ndarray | None) -> bool:
    return data is not None and data.size == 1 and float(data.reshape(-1)[0]) < -1e30


def _is_not_negative(op: Op) -> bool:
    return op.name in _NOT_NEGATIVE or getattr(op.options, "fusedActivationFunction", 0) in _FUSED_RELUS
