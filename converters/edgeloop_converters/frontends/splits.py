"""SPLIT with an output that nobody reads becomes SLICEs of the others.

ai-edge-quantizer leaves such an output in float, and the int8 file is then refused by every kernel. Unrolled LSTMs and
GRUs have them: in the first step the state is zero, so its gate is not computed.
"""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op, Subgraph, Tensor


def slice_dead_splits(graph: Graph) -> int:
    """How many SPLITs were replaced, in the main subgraph. Numbers stay the same."""
    main = graph.main
    read = {index for op in main.ops for index in op.inputs} | set(main.outputs)
    kept: list[Op] = []
    replaced = 0
    for op in main.ops:
        slices = _slices(main, op, read) if op.name == "SPLIT" and not read.issuperset(op.outputs) else None
        kept += [op] if slices is None else slices
        replaced += slices is not None
    main.ops = kept
    return replaced


def _slices(main: Subgraph, op: Op, read: set[int]) -> list[Op] | None:
    axis_data, value = main.tensors[op.inputs[0]].data, main.tensors[op.inputs[1]]
    if axis_data is None or not value.shape or value.shape_signature is not None:
        return None
    axis = int(np.asarray(axis_data).reshape(-1)[0]) % len(value.shape)
    begin = [0] * len(value.shape)
    slices = []
    for index in op.outputs:
        output = main.tensors[index]
        if index in read:
            places = [
                _constant(main, f"{output.name}_{what}", v) for what, v in (("begin", begin), ("size", output.shape))
            ]
            slices.append(Op("SLICE", [op.inputs[1], *places], [index]))
        begin[axis] += output.shape[axis]
    return slices


def _constant(main: Subgraph, name: str, values: object) -> int:
    data = np.asarray(values, np.int32)
    return main.add_tensor(Tensor(name, data.shape, "int32", data))
