"""Parts of a model as models of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgeloop.graph import Graph, Op, Subgraph


def cut(graph: Graph, names: Sequence[str]) -> bytes:
    """The part of a model that computes these tensors, which become its outputs, in order; all inputs stay."""
    main = graph.main
    wanted = [main.index_of(name) for name in names]
    return extract(graph, needed_ops(main.ops, wanted), main.inputs, wanted)[0].write()


def needed_ops(ops: Sequence[Op], wanted: Iterable[int]) -> tuple[Op, ...]:
    """Of `ops`, in order, those that lead to the tensors `wanted`."""
    needed, kept = set(wanted), []
    for op in reversed(ops):
        if needed.intersection(op.outputs):
            kept.append(op)
            needed.update(op.inputs)
    return tuple(reversed(kept))


def extract(
    graph: Graph, ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> tuple[Graph, dict[int, int]]:
    """A graph of these ops of the main subgraph, with these tensors as inputs and outputs, and none that they do not
    touch; and where each of its tensors was -> is. Constants are shared with `graph`.
    """
    main = graph.main
    touched = (i for op in ops for i in (*op.inputs, *op.outputs, *op.intermediates) if i >= 0)
    places = {old: new for new, old in enumerate(dict.fromkeys((*inputs, *touched, *outputs)))}

    def moved(indices: Iterable[int]) -> list[int]:
        return [places.get(i, i) for i in indices]  # -1: an input left out

    there = [
        replace(op, inputs=moved(op.inputs), outputs=moved(op.outputs), intermediates=moved(op.intermediates))
        for op in ops
    ]
    part = Subgraph(main.name, [main.tensors[i] for i in places], moved(inputs), moved(outputs), there)
    return Graph([part, *graph.subgraphs[1:]], description=graph.description), places
