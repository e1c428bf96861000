"""Peak activation memory: what must exist at once while the ops run in the file's order.

peak = max over ops of the bytes of all tensors alive then; a tensor that is computed lives from the op that writes it
to the last that reads it, an input from the start, an output to the end, a variable always. Constants do not count.
Source: the working-set definition of Liberis and Lane 2019, "Neural networks on microcontrollers: saving memory at
inference via operator reordering", section 3. It is a lower bound of the runtime's arena, which adds alignment, gaps
and the scratch memory of kernels.
"""

from __future__ import annotations

from edgeloop.graph import NO_TENSOR, Subgraph


def peak_memory_bytes(subgraph: Subgraph) -> int:
    """Of one subgraph, in bytes."""
    last = len(subgraph.ops)
    born: dict[int, int] = dict.fromkeys(subgraph.inputs, 0)
    dies: dict[int, int] = dict.fromkeys(subgraph.inputs, 0)
    for step, op in enumerate(subgraph.ops):
        for index in op.outputs:
            if index != NO_TENSOR:
                born.setdefault(index, step)
                dies[index] = step
        for index in op.inputs:
            if index != NO_TENSOR:
                dies[index] = step
    for index in subgraph.outputs:
        dies[index] = last
    for index, tensor in enumerate(subgraph.tensors):
        if tensor.is_variable:
            born[index], dies[index] = 0, last
    changes = [0] * (last + 2)
    for index, step in born.items():
        tensor = subgraph.tensors[index]
        if not tensor.is_constant:
            changes[step] += tensor.byte_count
            changes[dies[index] + 1] -= tensor.byte_count
    alive = peak = 0
    for change in changes:
        alive += change
        peak = max(peak, alive)
    return peak
