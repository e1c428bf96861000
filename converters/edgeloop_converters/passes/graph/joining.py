"""Model fusion: two models one after the other, or several on the same input, as one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Signature, Subgraph
from edgeloop.graph.parts import output_names


def in_series(first: Graph, second: Graph, *, names: tuple[str, str] = ("the first model", "the second one")) -> Graph:
    """second(first(x)): the first one's outputs, in order, are the second one's inputs. names: for what errors say.

    A RESHAPE is not put in between. Raises UsageError where number, shape, dtype or quantization do not fit, or where a
    model has more than its main subgraph.
    """
    _check([first, second])
    if len(first.outputs) != len(second.inputs):
        raise UsageError(f"{names[0]} has {len(first.outputs)} outputs, {names[1]} takes {len(second.inputs)} inputs")
    for n, (given, taken) in enumerate(zip(first.outputs, second.inputs, strict=True)):
        if (given.shape, given.dtype, given.affine) != (taken.shape, taken.dtype, taken.affine):
            raise UsageError(
                f"output {n} of {names[0]} is {_told(given)}, {names[1]} takes {_told(taken)}",
                hint="reshape or quantize alike before fusing",
            )
    joined = _Joined(first.description)
    places = joined.take(first, {})
    inputs = [places[i] for i in first.main.inputs]
    feeding = dict(zip(second.main.inputs, (places[i] for i in first.main.outputs), strict=True))
    behind = joined.take(second, feeding)
    outputs = dict(zip(output_names(second), (behind[i] for i in second.main.outputs), strict=True))
    return joined.finish(dict(zip(_input_names(first), inputs, strict=True)), outputs)


def side_by_side(models: Sequence[Graph], names: Sequence[str] = ()) -> Graph:
    """All models on the same inputs, which are the first one's; outputs of all in order, called NAME/OUTPUT.

    names: one per model, else model_0, model_1, ... What the models share, `optimize_graph` computes once. Raises
    UsageError where inputs do not fit.
    """
    if not models:
        raise UsageError("no models to put side by side")
    called = list(names) or [f"model_{n}" for n in range(len(models))]
    if len(called) != len(models) or len(set(called)) != len(called):
        raise UsageError(f"{len(models)} models need as many names, all different, got {', '.join(called)}")
    _check(models)
    joined = _Joined(models[0].description)
    inputs: list[int] = []
    outputs: dict[str, int] = {}
    for name, model in zip(called, models, strict=True):
        wanted = [(t.shape, t.dtype, t.affine) for t in models[0].inputs]
        if [(t.shape, t.dtype, t.affine) for t in model.inputs] != wanted:
            raise UsageError(f"model '{name}' takes other inputs than '{called[0]}'")
        places = joined.take(model, dict(zip(model.main.inputs, inputs, strict=True)) if inputs else {})
        inputs = inputs or [places[i] for i in model.main.inputs]
        for out, index in zip(output_names(model), model.main.outputs, strict=True):
            outputs[f"{name}/{out}"] = places[index]
    return joined.finish(dict(zip(_input_names(models[0]), inputs, strict=True)), outputs)


class _Joined:
    def __init__(self, description: str) -> None:
        self._graph = Graph([Subgraph("main", [], [], [], [])], description=description)

    def take(self, model: Graph, known: Mapping[int, int]) -> dict[int, int]:
        """Its tensors and ops, without the inputs that are `known` already; where each tensor of it is now."""
        main, places = self._graph.main, dict(known)
        fresh = model.copy().main
        for index, tensor in enumerate(fresh.tensors):
            if index not in places:
                places[index] = main.add_tensor(tensor)
        moved = {-1: -1, **places}
        for op in fresh.ops:
            op.inputs, op.outputs = [moved[i] for i in op.inputs], [moved[i] for i in op.outputs]
            op.intermediates = [moved[i] for i in op.intermediates]
            main.ops.append(op)
        return places

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Graph:
        main = self._graph.main
        main.inputs, main.outputs = list(inputs.values()), list(outputs.values())
        if len(set(main.outputs)) < len(main.outputs):
            raise UsageError("two outputs are the same tensor: a model that hands on its input cannot be fused")
        self._graph.ensure_unique_names()
        self._graph.signatures = [Signature("serving_default", 0, dict(inputs), dict(outputs))]
        return self._graph


def _check(models: Sequence[Graph]) -> None:
    for n, model in enumerate(models):
        if len(model.subgraphs) > 1:
            raise UsageError(f"model {n} has loops or branches (more than one subgraph) and cannot be fused")


def _input_names(graph: Graph) -> list[str]:
    known = next((s.inputs for s in graph.signatures if s.subgraph == 0), {})
    by_index = {index: name for name, index in known.items()}
    return [by_index.get(i, graph.main.tensors[i].name) for i in graph.main.inputs]


def _told(tensor: object) -> str:
    return f"{getattr(tensor, 'dtype', '')} {list(getattr(tensor, 'shape', ()))}"
