"""Where a model can stop early: tensors through which everything that comes later has to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.graph.parts import extract, needed_ops
from edgeloop_converters.passes.figures import Cost, macs

_LATEST = 0.95
"""A stop behind this share of the cost saves nothing that its head would not take."""


@dataclass(frozen=True)
class Place:
    """tensor: its name; nothing behind it reads anything before it. share: of the model's cost, up to there."""

    tensor: str
    share: float


def find_places(graph: Graph, cost: Cost = macs) -> tuple[Place, ...]:
    """All of the main subgraph, by rising share; of several at one cost the smallest tensor, then the last one.

    After a residual block that is its sum (activated where an activation follows), never a tensor inside of it.
    """
    whole = cost(graph)
    if whole <= 0:
        return ()
    found: dict[float, int] = {}
    tensors = graph.main.tensors
    for index in _bottlenecks(graph):
        part = extract(graph, needed_ops(graph.main.ops, [index]), graph.main.inputs, [index])[0]
        share = cost(part) / whole
        known = found.get(share)
        if known is None or tensors[index].element_count <= tensors[known].element_count:
            found[share] = index
    return tuple(Place(tensors[i].name, share) for share, i in sorted(found.items()) if 0 < share <= _LATEST)


def choose_places(places: Sequence[Place], shares: Sequence[float]) -> tuple[Place, ...]:
    """For each of the shares wanted the nearest place, by rising cost. Raises UsageError where they are too few."""
    if not places:
        raise UsageError(
            "the model has no place for an exit: what comes later takes more than one tensor of what was before",
            hint="narrower variants (widths) need no such place",
        )
    chosen = {min(places, key=lambda p: abs(p.share - share)) for share in shares}
    if len(chosen) < len(shares):
        told = ", ".join(f"{p.share:.0%}" for p in places)
        raise UsageError(f"exits at {len(shares)} shares of the cost fall on {len(chosen)} places",
                         hint=f"the model can stop at {told}")  # fmt: skip
    return tuple(sorted(chosen, key=lambda p: p.share))


def _bottlenecks(graph: Graph) -> list[int]:
    """Computed float tensors of one sample that are alone between the ops before and the ops behind them."""
    main = graph.main
    last_read = {i: number for number, op in enumerate(main.ops) for i in op.inputs if i >= 0}
    open_ = {i for i in main.inputs if i in last_read}
    found = []
    for number, op in enumerate(main.ops):
        open_ = {i for i in (*open_, *op.outputs) if last_read.get(i, -1) > number}
        tensor = main.tensors[only] if len(open_) == 1 and (only := next(iter(open_))) in op.outputs else None
        if tensor is not None and tensor.dtype == "float32" and _is_one_sample(tensor.shape):
            found.append(only)
    return found


def _is_one_sample(shape: tuple[int, ...]) -> bool:
    return 2 <= len(shape) <= 4 and shape[0] == 1 and min(shape) > 0
