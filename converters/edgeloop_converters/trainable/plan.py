"""How each op of a graph will be computed, decided before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op
from edgeloop_converters.trainable.call import Call
from edgeloop_converters.trainable.islands import Island
from edgeloop_converters.trainable.table import OPS, SHAPE, STATEFUL, Entry

Array = npt.NDArray[Any]

_KINDS = {"float16": "stores its weights as float16", "hybrid": "has int8 weights", "compiled": "is compiled"}


@dataclass(frozen=True)
class Step:
    """One op. entry: how to compute it; None where `island` does. mapped: sample by sample, because its first axis
    does not just come along. batched: whether its outputs depend on the model's inputs."""

    op: Op
    entry: Entry | None
    island: Island | None = None
    mapped: bool = False
    batched: bool = True


@dataclass(frozen=True)
class Plan:
    """steps: in order. static: values of tensors known beforehand. batched: tensors that depend on the inputs.

    trained: tensors that are variables -> the op that takes them. notes: one line per frozen island.
    """

    steps: tuple[Step, ...]
    static: dict[int, Array]
    batched: frozenset[int]
    trained: dict[int, str]
    notes: tuple[str, ...]


def check_float(graph: Graph) -> None:
    """Raises UsageError for a model that does not compute in float32."""
    kind = graph.numeric_kind()
    if kind not in ("float", "other"):
        raise UsageError(
            f"only float models are trained; this one {_KINDS.get(kind, f'computes in {kind}')}",
            hint="give the float model that it was made from (a frontend turns float16 weights into float32)",
        )


def make_plan(tf: Any, graph: Graph, *, islands: bool = True, frozen: Collection[str] = ()) -> Plan:
    """islands: whether unknown ops may be left to LiteRT. frozen: names of constants to leave as they are.

    Raises UsageError naming the op that can be neither built nor left alone.
    """
    check_float(graph)
    main = graph.main
    trained = _trained(graph, frozen)
    static: dict[int, Array] = {
        i: np.asarray(t.data)
        for i, t in enumerate(main.tensors)
        if t.data is not None and not t.raw and i not in trained
    }
    batched = set(main.inputs)
    steps: list[Step] = []
    notes: list[str] = []
    for number, op in enumerate(main.ops):
        depends = any(i in batched for i in op.inputs)
        if op.name == SHAPE and not op.custom:
            shape = main.tensors[op.inputs[0]].shape
            static[op.outputs[0]] = np.array(shape, main.tensors[op.outputs[0]].dtype)
            continue
        entry = None if op.custom else OPS.get(op.name)
        why = "is not known here" if entry is None else ""
        if entry is not None and any(op.inputs[i] not in static for i in entry.static if i < len(op.inputs)):
            entry, why = None, "takes its sizes from what it computes"
        if entry is not None and op.option("fusedActivationFunction") not in _FUSED:
            entry, why = None, "has a fused activation that LiteRT leaves out"
        if entry is None:
            notes.append(_refused_or_noted(graph, number, op, why, islands))
            island = Island(graph, op, [i for i in op.inputs if i >= 0 and main.tensors[i].data is None])
            if not depends and all(i in static or i < 0 for i in op.inputs):
                inputs = [static[i] for i in op.inputs if i >= 0 and main.tensors[i].data is None]
                static.update(zip(island.outputs, island.run(inputs, [False] * len(inputs)), strict=True))
                continue
            steps.append(Step(op, None, island, batched=depends))
        else:
            mapped = depends and not entry.leads(make_call(graph, op, static, batched, exact=False))
            step = Step(op, entry, mapped=mapped, batched=depends)
            if not depends and all(i in static or i < 0 for i in op.inputs):
                static.update(_evaluated(tf, graph, step, static))
                continue
            steps.append(step)
        if depends:
            batched.update(i for i in op.outputs if i >= 0)
    return Plan(tuple(steps), static, frozenset(batched), trained, tuple(notes))


def make_call(
    graph: Graph,
    op: Op,
    static: dict[int, Array],
    batched: Collection[int],
    *,
    exact: bool,
    inputs: tuple[Any, ...] = (),
) -> Call:
    tensors = graph.main.tensors
    return Call(
        op,
        inputs,
        tuple(static.get(i) for i in op.inputs),
        tuple(tensors[i].shape if i >= 0 else () for i in op.inputs),
        tuple(tensors[i].shape for i in op.outputs),
        tuple(i in batched for i in op.inputs),
        exact,
        tensors[op.outputs[0]].dtype,
    )


def _evaluated(tf: Any, graph: Graph, step: Step, static: dict[int, Array]) -> dict[int, Array]:
    assert step.entry is not None
    inputs = tuple(tf.constant(static[i]) if i >= 0 else None for i in step.op.inputs)
    results = step.entry.build()(tf, make_call(graph, step.op, static, (), exact=True, inputs=inputs))
    several = results if isinstance(results, (list, tuple)) else [results]
    return {i: value.numpy() for i, value in zip(step.op.outputs, several, strict=True)}


def _trained(graph: Graph, frozen: Collection[str]) -> dict[int, str]:
    """Float32 constants that are weights: of more than one element, since lone numbers belong to formulas."""
    main, found = graph.main, dict[int, str]()
    alone = {i for op in main.ops if op.custom or op.name not in OPS for i in op.inputs}  # islands hold their constants
    for op in main.ops:
        entry = None if op.custom else OPS.get(op.name)
        for position in () if entry is None else entry.weights:
            index = op.inputs[position] if position < len(op.inputs) else -1
            tensor = main.tensors[index] if index >= 0 else None
            if tensor is None or tensor.data is None or tensor.dtype != "float32" or tensor.raw:
                continue
            is_number = tensor.element_count == 1 and op.name in _FORMULAS
            if not is_number and index not in alone and tensor.name not in frozen:
                found.setdefault(index, op.name)
    return found


_FUSED = (0, 1, 2, 3)
"""None, ReLU, -1..1, ReLU6: LiteRT's kernels know no others, and compute as if a tanh were not there."""
_FORMULAS = frozenset({"ADD", "SUB", "MUL", "DIV"})


def _refused_or_noted(graph: Graph, number: int, op: Op, why: str, islands: bool) -> str:
    what = f"op {number} {op.name}"
    stateful = op.name in STATEFUL or any(graph.main.tensors[i].is_variable for i in op.inputs if i >= 0)
    if stateful:
        raise UsageError(f"{what} keeps state from one inference to the next: such a model cannot be trained here")
    if not islands:
        raise UsageError(f"{what} {why}: it cannot be trained", hint="allow frozen islands, or replace the op")
    return (
        f"{what} {why}: it is a frozen island, run by LiteRT one sample at a time; its values pass, gradients do not, "
        "so what lies before it learns only through paths around it"
    )
