"""What is to be learnt at each output of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph, Op

Array = npt.NDArray[Any]

CLASSES, FLAGS, VALUES = "classes", "flags", "values"
KINDS = (CLASSES, FLAGS, VALUES)
_KIND_OF_LAST_OP = {"SOFTMAX": CLASSES, "LOGISTIC": FLAGS}


def check_weight(what: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise UsageError(f"a {what}'s weight is {weight}: it must be at least 0")


@dataclass(frozen=True)
class Task:
    """One output. output: its tensor's name, "" for the output at the task's own place.

    kind: "classes" (one of n; labels are class ids), "flags" (n independent yes or no; labels 0 and 1), "values" (any
    numbers), or "" for what the output's last op says (softmax, sigmoid, else), where integer labels mean classes.
    weight: of its loss among the tasks'. labels: which of the data's labels it takes; None: those at its own place.
    """

    output: str = ""
    kind: str = ""
    weight: float = 1.0
    labels: int | None = None

    def __post_init__(self) -> None:
        check_weight("task", self.weight)


@dataclass(frozen=True)
class Goal:
    """A task of a certain graph. scores: the tensor compared, before a softmax or sigmoid. sharpness: the softmax's
    beta. labels: index into the data's labels, None where they have none for it."""

    name: str
    scores: str
    kind: str
    weight: float
    sharpness: float
    labels: int | None


def goals_of(graph: Graph, tasks: Sequence[Task], labels: Sequence[Array]) -> tuple[Goal, ...]:
    """No tasks: one for every output that computes floats. Raises UsageError where a task and the graph contradict each
    other, DataError where labels do not fit."""
    main, producers = graph.main, graph.producers()
    names = [main.tensors[i].name for i in main.outputs]
    if not tasks:
        tasks = [Task(name) for name, i in zip(names, main.outputs, strict=True) if main.tensors[i].dtype == "float32"]
        if not tasks:
            raise UsageError("the model has no float output to learn at")
    goals = []
    for place, task in enumerate(tasks):
        name = task.output or names[min(place, len(names) - 1)]
        if name not in names:
            raise UsageError(f"the model has no output '{name[:120]}'", hint=f"its outputs: {', '.join(names)[:300]}")
        if task.kind not in ("", *KINDS):
            raise UsageError(f"task kind {task.kind!r} is not known", hint=f"one of: {', '.join(KINDS)}")
        index = main.outputs[names.index(name)]
        op = main.ops[producers[index]] if index in producers else None
        own = place if task.labels is None else task.labels
        if task.labels is not None and not 0 <= task.labels < len(labels):
            raise UsageError(f"task '{name[:120]}' takes labels {task.labels}, given were {len(labels)}")
        at = own if own < len(labels) else None
        kind = task.kind or _kind(op, None if at is None else labels[at])
        squashed = op is not None and _KIND_OF_LAST_OP.get(op.name) == kind
        scores = main.tensors[op.inputs[0]].name if op is not None and squashed else name
        shape = main.tensors[index].shape
        if not shape:
            raise UsageError(f"output '{name[:120]}' is one number for any samples: there is nothing to learn at it")
        if at is not None:
            _check_labels(name, kind, shape, labels[at])
        beta = float(getattr(op.options, "beta", 1.0) or 1.0) if op is not None and op.name == "SOFTMAX" else 1.0
        goals.append(Goal(name, scores, kind, task.weight, beta, at))
    return tuple(goals)


def _kind(op: Op | None, labels: Array | None) -> str:
    if op is not None and op.name in _KIND_OF_LAST_OP:
        return _KIND_OF_LAST_OP[op.name]
    return CLASSES if labels is not None and np.issubdtype(labels.dtype, np.integer) else VALUES


def _check_labels(name: str, kind: str, shape: tuple[int, ...], labels: Array) -> None:
    what = f"labels of output '{name[:120]}'"
    each, wanted = labels.shape[1:], shape[1:]
    if kind == CLASSES:
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{what} are {labels.dtype}: classes are whole numbers", hint="one-hot: labels.argmax(-1)")
        low, high = int(labels.min()), int(labels.max())
        if low < -1 or high >= shape[-1]:
            raise DataError(f"{what} go from {low} to {high}: the output has {shape[-1]} classes, from 0")
        if each != wanted[:-1]:
            raise DataError(f"{what} have the shape {list(each)} per sample, wanted {list(wanted[:-1])}")
    elif math.prod(each) != math.prod(wanted):
        raise DataError(f"{what} have {math.prod(each)} values per sample, the output {list(wanted)}")
    elif np.isinf(labels).any():
        raise DataError(f"{what} hold infinity")
    unknown = labels < 0 if kind == CLASSES else np.isnan(labels)
    if unknown.all():
        raise DataError(f"{what}: all are {-1 if kind == CLASSES else 'NaN'}, so none is known")
