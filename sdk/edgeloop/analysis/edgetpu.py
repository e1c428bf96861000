"""Ops that an Edge TPU is predicted to take. Single ops: `edgetpu_rules`; here, how they hang together.

The compiler makes one program: it ends at the first op it cannot map on each path, and all that depends on such an op
stays on the CPU, mappable or not. Ops it cannot map before anything mapped (a cast of the input) stay in front of the
program.
"""

from __future__ import annotations

from edgeloop.analysis.edgetpu_rules import NEWEST_VERSIONS, refusal
from edgeloop.graph import Graph
from edgeloop.graph.kinds import EDGETPU_OP
from edgeloop.graph.naming import printable
from edgeloop.targets import Target

LEFT = "left on the CPU by the Edge TPU compiler"
FOLLOWS = "comes after op "
"""How the reason begins for an op that could be taken, were it not for one before it."""


def refusals(graph: Graph, target: Target | None = None) -> list[str]:
    """For each op of the main subgraph: "" or why the Edge TPU does not take it."""
    main = graph.main
    if any(op.name == EDGETPU_OP for op in main.ops):
        return ["" if op.name == EDGETPU_OP else LEFT for op in main.ops]
    unreadable = _unreadable(graph)
    if unreadable:
        return [refusal(op, main) or unreadable for op in main.ops]
    blocked: dict[int, int] = {}  # tensor -> the op that ended the program on its path
    reached: set[int] = set()  # tensors that come out of the program
    reasons = []
    for index, op in enumerate(main.ops):
        blocker = next((blocked[i] for i in op.inputs if i in blocked), None)
        reason = refusal(op, main)
        if not reason and blocker is not None:
            reason = f"{FOLLOWS}{blocker} ({printable(main.ops[blocker].name)}), which it cannot take"
        if not reason:
            reached.update(op.outputs)
        elif blocker is not None or reached.intersection(op.inputs):
            end = index if blocker is None else blocker
            blocked.update(dict.fromkeys(op.outputs, end))
        reasons.append(reason)
    return reasons


def _unreadable(graph: Graph) -> str:
    """Why the compiler reads no op of this model, "" where it does."""
    for index, op in enumerate(graph.main.ops):
        newest = NEWEST_VERSIONS.get(op.name)
        if not op.custom and newest is not None and op.version > newest:
            return f"the compiler cannot read the model: op {index} ({op.name}) has version {op.version}, not {newest}"
    return ""
