"""What really ran: which ops the delegate kernels in an execution plan stand for. Pure.

TFLite keeps the model's own nodes and appends one node per delegate kernel, whose inputs and outputs are those of the
ops it replaced. Walking back from a kernel's outputs to its inputs over the model's nodes finds these ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """One node of the interpreter: its op name and the indices of its tensors (-1: an optional input left out)."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class RanOn:
    """What was asked for and what ran.

    `ran` is the asked delegate only when it really took ops, else the one that did ("xnnpack"), else "cpu".
    `delegated_ops` are those that `ran` took, of the `total_ops` of the main subgraph; 0 for "cpu".
    """

    asked: str
    ran: str
    delegated_ops: int
    total_ops: int
    runtime: str
    note: str = ""

    @property
    def delegated_share(self) -> float:
        """0..1 of the model's ops."""
        return self.delegated_ops / self.total_ops if self.total_ops else 0.0


def claimed_ops(model_nodes: Sequence[Node], kernels: Sequence[Node]) -> frozenset[int]:
    """Indices into `model_nodes` of the ops that `kernels` replaced."""
    producer = {tensor: index for index, node in enumerate(model_nodes) for tensor in node.outputs}
    claimed: set[int] = set()
    for kernel in kernels:
        known = set(kernel.inputs)
        waiting = [tensor for tensor in kernel.outputs if tensor not in known]
        while waiting:
            index = producer.get(waiting.pop())
            if index is None or index in claimed:
                continue
            claimed.add(index)
            for tensor in model_nodes[index].inputs:
                if tensor not in known:
                    known.add(tensor)
                    waiting.append(tensor)
    return frozenset(claimed)


def describe_run(
    asked: str, name: str, model: Sequence[Node], library: Sequence[Node], default: Sequence[Node], runtime: str,
    hint_no_xnnpack: str = "",
) -> RanOn:  # fmt: skip
    """RanOn from the nodes: the model's own, those of the asked library, those of the default delegate (XNNPACK)."""
    total = len(model)
    by_library, by_xnnpack = len(claimed_ops(model, library)), len(claimed_ops(model, default))
    if by_library:
        rest = f"; xnnpack took {by_xnnpack} more" if by_xnnpack else ""
        return RanOn(asked, name, by_library, total, runtime, f"{name} took {by_library} of {total} ops{rest}")
    note = ""
    if name not in ("cpu", "xnnpack"):
        note = f"{name} took none of the {total} ops"
    if by_xnnpack:
        return RanOn(asked, "xnnpack", by_xnnpack, total, runtime, note)
    if name != "cpu":
        note = "; ".join(filter(None, (note, f"xnnpack took none of the {total} ops{hint_no_xnnpack}")))
    return RanOn(asked, "cpu", 0, total, runtime, note)
