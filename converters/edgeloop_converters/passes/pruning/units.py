"""Which layers are refitted together, and what their output goes through before anything else reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeloop.graph import Graph, Op
from edgeloop_converters.passes.pruning.consumers import LINEAR

Bounds = tuple[float, float]
"""Lowest and highest value that an activation lets through as it is."""

BOUNDS: Mapping[int, Bounds] = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 3: (0.0, 6.0)}
_ACTIVATIONS: Mapping[str, Bounds] = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0)}
_MOST_COLUMNS = 6000


@dataclass(frozen=True)
class Unit:
    """Layers that are solved together: one, or two whose outputs are added and nothing else.

    goal: tensor after all of it. added: tensor that comes on top, or None. bounds: of the activation in between.
    """

    ops: tuple[Op, ...]
    goal: int
    added: int | None
    bounds: Bounds


def find_units(graph: Graph) -> list[Unit]:
    """In the order in which they can be solved."""
    main = graph.main
    uses = Counter(i for op in main.ops for i in op.inputs)
    uses.update(main.outputs)
    readers = {i: op for op in main.ops for i in op.inputs}
    makers = {op.outputs[0]: op for op in main.ops if op.outputs}
    found, done = list[Unit](), set[int]()
    for op in main.ops:
        if not is_solvable(graph, op) or op.outputs[0] in done:
            continue
        out = op.outputs[0]
        bounds = BOUNDS.get(op.option("fusedActivationFunction"))
        if bounds is None:
            continue
        unit = Unit((op,), out, None, bounds)
        reader = readers.get(out) if uses[out] == 1 else None
        if bounds == BOUNDS[0] and reader is not None:
            if reader.name in _ACTIVATIONS:
                unit = Unit((op,), out, None, _ACTIVATIONS[reader.name])
            elif reader.name == "ADD" and reader.inputs[0] != reader.inputs[1]:
                unit = _joined(graph, op, reader, makers, uses) or unit
        done.update(o.outputs[0] for o in unit.ops)
        found.append(unit)
    order = {id(op): n for n, op in enumerate(main.ops)}
    return sorted(found, key=lambda u: max(order[id(op)] for op in u.ops))


def _joined(graph: Graph, op: Op, add: Op, makers: Mapping[int, Op], uses: Counter[int]) -> Unit | None:
    main = graph.main
    other = next(i for i in add.inputs if i != op.outputs[0])
    if main.tensors[other].is_constant or main.tensors[other].shape != main.tensors[op.outputs[0]].shape:
        return None
    bounds = BOUNDS.get(add.option("fusedActivationFunction"))
    if bounds is None:
        return None
    maker = makers.get(other)
    both = (
        maker is not None
        and op.name in LINEAR
        and maker.name in LINEAR
        and uses[other] == 1
        and is_solvable(graph, maker)
        and maker.option("fusedActivationFunction") == 0
    )
    if both and maker is not None:
        return Unit((op, maker), add.outputs[0], None, bounds)
    return Unit((op,), add.outputs[0], other, bounds)


def is_solvable(graph: Graph, op: Op) -> bool:
    if op.name not in (*LINEAR, "DEPTHWISE_CONV_2D"):
        return False
    weight, source = graph.constant(op, 1), graph.main.tensors[op.inputs[0]]
    if weight is None or weight.dtype != "float32":
        return False
    if source.shape[:1] not in ((1,), ()) and op.name != "FULLY_CONNECTED":
        return False
    if op.name == "DEPTHWISE_CONV_2D":
        return op.option("depthMultiplier", 1) == 1 and source.shape[-1] == weight.shape[-1]
    if op.name == "CONV_2D" and source.shape[-1] != weight.shape[-1]:
        return False
    return int(np.prod(weight.shape[1:])) <= _MOST_COLUMNS
