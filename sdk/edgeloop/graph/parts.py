"""Parts of a model as models of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgeloop.errors import UsageError
from edgeloop.graph.model import Graph
from edgeloop.graph.values import Op, Signature, Subgraph

_EXIT = re.compile(r"exit[1-9]\d?")
"""What outputs that are exit heads are called in the signature, `exit1` the earliest."""


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


@dataclass(frozen=True)
class Halves:
    """A model cut in two behind one of its outputs.

    first: takes the model's inputs; its outputs are that output, then the tensors that the second half takes. second:
    takes those, in this order; its outputs are the model's others, in their order. exit: that output's index in the
    model.
    """

    first: bytes
    second: bytes
    exit: int


def halves(graph: Graph, output: str) -> Halves:
    """Cut at the output called so (in the signature, else by its tensor). Both halves compute what the whole does.

    Raises UsageError where there is no such output beside others, where nothing is left to compute behind it, or where
    the model keeps state.
    """
    main = graph.main
    names = output_names(graph)
    if output not in names or len(names) < 2:
        told = ", ".join(names)
        raise UsageError(f"the model has no exit head '{output}' beside its answer", hint=f"its outputs are: {told}")
    if any(tensor.is_variable for tensor in main.tensors):
        raise UsageError("a model that keeps state from one inference to the next cannot be cut in two")
    at = names.index(output)
    first = needed_ops(main.ops, [main.outputs[at]])
    done = {i for op in first for i in op.outputs}
    others = [i for n, i in enumerate(main.outputs) if n != at]
    second = tuple(op for op in needed_ops(main.ops, others) if not done.issuperset(op.outputs))
    made = {i for op in second for i in op.outputs}
    read = [i for op in second for i in op.inputs] + [i for i in others if i not in made]
    border = [i for i in dict.fromkeys(read) if i >= 0 and i not in made and not main.tensors[i].is_constant]
    if not second or not made.issuperset(others):
        raise UsageError(
            f"nothing is computed behind the exit head '{output}'", hint="the model's answer comes after it"
        )
    if any(i in main.inputs for i in border):
        raise UsageError(f"what comes behind the exit head '{output}' takes the model's input itself")
    head = extract(graph, first, main.inputs, [main.outputs[at], *border])[0]
    rest = extract(graph, second, border, others)[0]
    return Halves(head.write(), rest.write(), at)


def output_names(graph: Graph) -> tuple[str, ...]:
    """By the signature, else by the tensors, in the model's order."""
    known = next((s.outputs for s in graph.signatures if s.subgraph == 0), {})
    by_index = {index: name for name, index in known.items()}
    return tuple(by_index.get(i, graph.main.tensors[i].name) for i in graph.main.outputs)


def exit_heads(graph: Graph) -> tuple[str, ...]:
    """Names of the model's last outputs that are called as exit heads are, in order; () where it has none."""
    names = output_names(graph)
    count = next((n for n, name in enumerate(reversed(names)) if not _EXIT.fullmatch(name)), len(names))
    return names[len(names) - count :]


def up_to(graph: Graph, head: str) -> Graph:
    """The part of a model that computes its output `head`, alone, with the same inputs and names.

    KeyError where there is no such output.
    """
    at = graph.main.outputs[dict(zip(output_names(graph), range(len(graph.main.outputs)), strict=True))[head]]
    main = graph.main
    part, places = extract(graph, needed_ops(main.ops, [at]), main.inputs, [at])
    for signature in graph.signatures:
        if signature.subgraph == 0:
            inputs = {name: places[i] for name, i in signature.inputs.items()}
            part.signatures.append(Signature(signature.key, 0, inputs, {head: places[at]}))
            break
    return part
