"""Which whole numbers an input takes that chooses rows of a table: the table's size says it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

_SAME_NUMBERS = frozenset(("CAST", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE"))
"""Ops whose output holds all numbers of their first input and no others."""


class Step(Protocol):
    """What is read of an op: `edgeloop.graph.Op` and `edgeloop.runtime.plan.Node` fit. In the order they run."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[int]: ...
    @property
    def outputs(self) -> Sequence[int]: ...


def index_ranges(
    inputs: Iterable[int], steps: Iterable[Step], shape_of: Callable[[int], tuple[int, ...]]
) -> dict[int, tuple[int, int]]:
    """(lowest, highest) index that the lookups fed by each of `inputs` (tensors) take; inputs without any are absent.

    An input counts where its numbers reach GATHER or EMBEDDING_LOOKUP as they are, or with negative ones counted from
    the table's end, as JAX writes it: SELECT(LESS(i, 0), ADD(i, rows), i). Where shapes leave the axis of a GATHER
    open, it is the longest one, so that no index which the runtime takes is called wrong.
    """
    origin = {tensor: tensor for tensor in inputs}
    wrapped: set[int] = set()
    sides: dict[str, dict[int, int]] = {"LESS": {}, "ADD": {}}
    found: dict[int, tuple[int, int]] = {}
    for step in steps:
        if len(step.outputs) != 1 or min(step.inputs, default=-1) < 0:
            continue
        result, first = step.outputs[0], step.inputs[0]
        if step.name in _SAME_NUMBERS and first in origin:
            origin[result] = origin[first]
            if first in wrapped:
                wrapped.add(result)
        elif step.name in sides and first in origin:
            sides[step.name][result] = origin[first]
        elif step.name in ("SELECT", "SELECT_V2") and len(step.inputs) == 3 and step.inputs[2] in origin:
            source = origin[step.inputs[2]]
            if sides["LESS"].get(first) == source == sides["ADD"].get(step.inputs[1]):
                origin[result] = source
                wrapped.add(result)
        elif step.name in ("GATHER", "EMBEDDING_LOOKUP") and len(step.inputs) == 2:
            gathers = step.name == "GATHER"
            table, indices = step.inputs if gathers else reversed(step.inputs)
            if indices not in origin:
                continue
            shape = shape_of(table)
            rows = _gathered(shape, shape_of(indices), shape_of(result)) if gathers else next(iter(shape), 0)
            if rows > 0:
                low, high = found.get(origin[indices], (-rows, rows - 1))
                found[origin[indices]] = (max(low, -rows if indices in wrapped else 0), min(high, rows - 1))
    return found


def _gathered(table: tuple[int, ...], indices: tuple[int, ...], result: tuple[int, ...]) -> int:
    """Length of the axis that GATHER takes from, 0 where shapes do not tell."""
    axes = (a for a in range(len(table)) if (*table[:a], *indices, *table[a + 1 :]) == result)
    return max((table[a] for a in axes), default=0)
