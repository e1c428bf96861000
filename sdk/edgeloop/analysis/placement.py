"""Which delegate an op runs on, and why not on a better one: predicted from rules, or confirmed by who knows.

XNNPACK: measured op by op on LiteRT 2.3 (tests/sdk/test_placement.py repeats it on the installed runtime).
Edge TPU: Coral's published table of supported operations ("TensorFlow models on the Edge TPU"), logs of the real
compiler, and what it left on the CPU in compiled models. A rule gives "" where the delegate takes the op, else why it
does not. Nothing is run here: what a compiler or a runtime took of the model is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeloop.analysis import edgetpu, xnnpack
from edgeloop.analysis.edgetpu_program import ProgramSize
from edgeloop.analysis.preflight import Preflight, preflight
from edgeloop.graph import Graph
from edgeloop.graph.kinds import EDGETPU_OP
from edgeloop.graph.naming import printable
from edgeloop.targets import Target

_NO_EDGETPU = "the target has no Edge TPU"

DEFAULT_DELEGATES = ("xnnpack", "cpu")


@dataclass(frozen=True)
class DelegatePlan:
    """`mapped_ops`: those the delegate would take if it were the only one.

    `status`: "predicted", or "confirmed" by its compiler or the runtime. `preflight`: what that means for the model.
    """

    mapped_ops: int
    total_ops: int
    status: str
    preflight: Preflight


@dataclass(frozen=True)
class Confirmation:
    """What a delegate or its compiler really took: indices of ops of the main subgraph. `reasons`: what it said of
    others, by index. `by`: who says so. `size`: of the program that was made.
    """

    taken: frozenset[int]
    by: str
    reasons: Mapping[int, str] = field(default_factory=dict)
    size: ProgramSize | None = None


@dataclass(frozen=True)
class Placement:
    """Of one op: `delegate` is "edgetpu", "xnnpack" or "cpu", or "nowhere" where the target cannot run it; `reason`
    says why not one before it in the order.
    """

    delegate: str
    reason: str


RULES: Mapping[str, Callable[[Graph, Target | None], list[str]]] = {
    # For each op of the main subgraph: "" where it is taken, else why not.
    "edgetpu": edgetpu.refusals,
    "xnnpack": xnnpack.refusals,
}


def place(
    graph: Graph, target: Target | None, confirmed: Mapping[str, Confirmation] | None = None
) -> tuple[list[Placement], dict[str, DelegatePlan]]:
    """Placement of every op of the main subgraph on the target's delegates, in its order, and a plan per delegate."""
    order = [name for name in (target.delegates if target else DEFAULT_DELEGATES) if name in RULES]
    compiled = any(op.name == EDGETPU_OP for op in graph.main.ops)
    missing: list[str] = []
    if compiled and "edgetpu" not in order:
        order.insert(0, "edgetpu")
        missing += ["edgetpu"] if target is not None else []
    refused, plans = {}, {}
    for name in order:
        reasons, said = RULES[name](graph, target), (confirmed or {}).get(name)
        if name in missing:
            reasons = [_NO_EDGETPU] * len(reasons)
        is_confirmed = said is not None or (compiled and name == "edgetpu")
        differing: list[str] = []
        if said is not None:
            reasons, differing = _as_confirmed(graph, reasons, said)
        refused[name] = reasons
        plans[name] = DelegatePlan(
            sum(not reason for reason in reasons), len(reasons), "confirmed" if is_confirmed else "predicted",
            preflight(graph, target, name, reasons, differing, said.size if said is not None else None),
        )  # fmt: skip
    placements = [_place_op(index, order, refused) for index in range(len(graph.main.ops))]
    if target is not None and missing:
        plans["edgetpu"] = _cannot_run(plans["edgetpu"], target)
        placements = [
            replace(placed, delegate="nowhere") if op.name == EDGETPU_OP else placed
            for op, placed in zip(graph.main.ops, placements, strict=True)
        ]
    return placements, plans


def _cannot_run(plan: DelegatePlan, target: Target) -> DelegatePlan:
    """The plan of a file that was compiled for an accelerator which the target has not."""
    text = f"this file cannot run on {target.id}: it needs an Edge TPU; give the int8 file, or --target coral-usb"
    return replace(plan, preflight=replace(plan.preflight, warnings=(text,), rewrites=()))


def _as_confirmed(graph: Graph, predicted: Sequence[str], said: Confirmation) -> tuple[list[str], list[str]]:
    """Reasons by what really ran, and where the prediction was another."""
    reasons, differing = [], []
    for index, (op, reason) in enumerate(zip(graph.main.ops, predicted, strict=True)):
        is_taken = index in said.taken
        if is_taken == bool(reason):
            was = f"predicted off ({reason})" if reason else "predicted to be taken"
            differing.append(f"op {index} ({printable(op.name)}): {was}, {said.by} {'took' if is_taken else 'left'} it")
        reasons.append("" if is_taken else said.reasons.get(index) or reason or f"{said.by} left it")
    return reasons, differing


def _place_op(index: int, order: list[str], refused: Mapping[str, list[str]]) -> Placement:
    reasons: list[str] = []
    for name in order:
        reason = refused[name][index]
        if not reason:
            return Placement(name, "; ".join(reasons))
        reasons.append(f"not {name}: {reason}")
    return Placement("cpu", "; ".join(reasons))
