"""Which delegate an op is predicted to run on, and why not on a better one. Rules only; nothing is run.

XNNPACK: measured op by op on LiteRT 2.3 (tests/sdk/test_placement.py repeats it on the installed runtime).
Edge TPU: Coral's published table of supported operations ("TensorFlow models on the Edge TPU"), and what the real
compiler left on the CPU in compiled models. A rule gives "" where the delegate takes the op, else why it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeloop.analysis import edgetpu, xnnpack
from edgeloop.graph import Graph
from edgeloop.graph.kinds import EDGETPU_OP
from edgeloop.targets import Target

DEFAULT_DELEGATES = ("xnnpack", "cpu")


@dataclass(frozen=True)
class DelegatePlan:
    """`mapped_ops`: those the delegate would take if it were the only one.

    `status`: "predicted", or "confirmed" by its compiler.
    """

    mapped_ops: int
    total_ops: int
    status: str = "predicted"


@dataclass(frozen=True)
class Placement:
    """Of one op: `delegate` is "edgetpu", "xnnpack" or "cpu"; `reason` says why not one before it in the order."""

    delegate: str
    reason: str


RULES: Mapping[str, Callable[[Graph, Target | None], list[str]]] = {
    # For each op of the main subgraph: "" where it is taken, else why not.
    "edgetpu": edgetpu.refusals,
    "xnnpack": xnnpack.refusals,
}


def place(graph: Graph, target: Target | None) -> tuple[list[Placement], dict[str, DelegatePlan]]:
    """Placement of every op of the main subgraph on the target's delegates, in its order, and a plan per delegate."""
    order = [name for name in (target.delegates if target else DEFAULT_DELEGATES) if name in RULES]
    compiled = any(op.name == EDGETPU_OP for op in graph.main.ops)
    if compiled and "edgetpu" not in order:
        order.insert(0, "edgetpu")
    refused = {name: RULES[name](graph, target) for name in order}
    total = len(graph.main.ops)
    plans = {
        name: DelegatePlan(
            sum(not reason for reason in reasons), total, "confirmed" if compiled and name == "edgetpu" else "predicted"
        )
        for name, reasons in refused.items()
    }
    return [_place_op(index, order, refused) for index in range(total)], plans


def _place_op(index: int, order: list[str], refused: Mapping[str, list[str]]) -> Placement:
    reasons: list[str] = []
    for name in order:
        reason = refused[name][index]
        if not reason:
            return Placement(name, "; ".join(reasons))
        reasons.append(f"not {name}: {reason}")
    return Placement("cpu", "; ".join(reasons))
