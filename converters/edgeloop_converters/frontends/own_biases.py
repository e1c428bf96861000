"""Converters keep one constant of zeros for all layers of a width that have no bias; every layer gets its own."""

from __future__ import annotations

from dataclasses import replace

from edgeloop.graph import Graph

_BIAS_AT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def own_biases(graph: Graph) -> int:
    """How many were added. Else pruning takes such layers for ones that must keep the same channels, and training
    gives them one bias. The file does not grow: equal constants share their bytes.
    """
    main, seen, added = graph.main, set[int](), 0
    for op in main.ops:
        at = _BIAS_AT.get(op.name, len(op.inputs)) if not op.custom else len(op.inputs)
        index = op.inputs[at] if at < len(op.inputs) else -1
        if index < 0 or main.tensors[index].data is None:
            continue
        if index in seen:
            name = f"{main.tensors[op.outputs[0]].name}/bias"
            op.inputs[at] = main.add_tensor(replace(main.tensors[index], name=name))
            added += 1
        seen.add(index)
    return added
