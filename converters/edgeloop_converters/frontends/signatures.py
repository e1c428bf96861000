"""Which signature of a model that has several is converted, and a .tflite with only that one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op

DEFAULT = "serving_default"

# Fields of op options that name a subgraph.
_SUBGRAPH_FIELDS = (
    "condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex", "initSubgraphIndex", "subgraph",
    "subgraphIndex", "decompositionSubgraphIndex",
)  # fmt: skip


def choose_signature(available: Sequence[str], wanted: str | None, source: Path) -> str:
    """The signature to convert. Raises UsageError listing what there is."""
    have = ", ".join(sorted(available))
    if wanted is not None:
        if wanted not in available:
            raise UsageError(f"{source}: no signature '{wanted}'", hint=f"it has: {have or 'none'}")
        return wanted
    if DEFAULT in available:
        return DEFAULT
    if len(available) == 1:
        return available[0]
    if not available:
        raise UsageError(f"{source}: the SavedModel has no signature", hint="save it with model.export(folder)")
    raise UsageError(f"{source}: which signature?", hint=f"--signature, one of: {have}")


def said(chosen: str, available: Sequence[str], wanted: str | None) -> tuple[str, ...]:
    """A note on those that are left out, unless the user has chosen."""
    others = sorted(set(available) - {chosen})
    return (f"signature '{chosen}' is converted, not {', '.join(others)}",) if others and wanted is None else ()


def keep_signature(graph: Graph, wanted: str | None, source: Path) -> tuple[str, ...]:
    """Leave in `graph` only the chosen signature, its subgraph as the main one. Returns notes. Raises UsageError."""
    keys = [signature.key for signature in graph.signatures]
    if wanted is None and len(keys) < 2:
        return ()
    if not keys:
        raise UsageError(f"{source}: no signature '{wanted}'", hint="it has none: leave --signature out")
    chosen = choose_signature(keys, wanted, source)
    signature = next(s for s in graph.signatures if s.key == chosen)
    order = _reachable(graph, signature.subgraph)
    numbers = {old: new for new, old in enumerate(order)}
    graph.subgraphs = [graph.subgraphs[i] for i in order]
    for subgraph in graph.subgraphs:
        for op in subgraph.ops:
            for field, index in _called(op):
                setattr(op.options, field, numbers[index])
    signature.subgraph = 0
    graph.signatures = [signature]
    return said(chosen, keys, wanted)


def _reachable(graph: Graph, first: int) -> list[int]:
    """`first` and the subgraphs that its ops call, in the order they are met."""
    found = [first]
    for at in found:
        for op in graph.subgraphs[at].ops:
            found += [index for _, index in _called(op) if index not in found]
    return found


def _called(op: Op) -> list[tuple[str, int]]:
    fields = [(f, getattr(op.options, f, None)) for f in _SUBGRAPH_FIELDS]
    return [(f, index) for f, index in fields if isinstance(index, int) and index >= 0]
