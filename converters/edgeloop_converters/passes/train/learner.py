"""A trainable graph with what it is to learn: labels, a teacher, hints at inner tensors, fake quantization."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop_converters.passes.train.losses import (
    SoftLabels,
    accuracy,
    agreement,
    label_loss,
    relative_error,
    soft_loss,
)
from edgeloop_converters.passes.train.tasks import CLASSES, FLAGS, Goal, check_weight
from edgeloop_converters.trainable import TrainableGraph, TrainingOptions
from edgeloop_converters.trainable.augmenting import mixes
from edgeloop_converters.trainable.hooks import Bfloat16, Chain, Dropout, Hooks
from edgeloop_converters.trainable.imports import import_tensorflow


@dataclass(frozen=True)
class Hint:
    """An inner tensor of the student that is to be like one of the teacher's (FitNets, Romero et al. 2015).

    Names of tensors; height and width must be the same. Where the channels differ, a linear map from the student's to
    the teacher's is learnt beside, and dropped afterwards. weight: of its loss, which is relative to the variance.
    """

    student: str
    teacher: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight("hint", self.weight)


class Quantizer(Protocol):
    """Fake quantization for a learner. variables: learnt ranges. state: ranges that follow what is seen."""

    variables: Mapping[str, Any]
    state: Mapping[str, Any]
    identity: str

    def hooks(self, learning: bool) -> Hooks: ...


@dataclass(frozen=True)
class Teacher:
    """graph: fixed. goals: those of the student, at this graph's tensors."""

    graph: TrainableGraph
    goals: tuple[Goal, ...]


class GraphLearner:
    """A `Learner` of `trainable.loop`. At least one of labels, teacher and hints must be there to learn from."""

    def __init__(
        self,
        graph: TrainableGraph,
        goals: Sequence[Goal],
        options: TrainingOptions,
        *,
        teacher: Teacher | None = None,
        soft: SoftLabels | None = None,
        hints: Sequence[Hint] = (),
        quantizer: Quantizer | None = None,
    ) -> None:
        self._tf = tf = import_tensorflow()
        self.graph, self._goals, self._options, self._quantizer = graph, tuple(goals), options, quantizer
        self._teacher, self._soft = teacher, soft or SoftLabels()
        self._hints = tuple(hints)
        self._maps = {} if teacher is None else _maps(tf, graph.graph, teacher.graph.graph, self._hints)
        for tensor in graph.graph.inputs:
            if tensor.shape[:1] != (1,):
                raise UsageError(
                    f"input '{tensor.name[:80]}' is {list(tensor.shape)}: only models of one sample at a time are "
                    "trained",
                    hint="convert it with batch 1",
                )
        if not graph.variables:
            raise UsageError("the model has no weights to train")
        if teacher is None and all(goal.labels is None for goal in goals):
            raise UsageError("there is nothing to learn from", hint="give labels, or a teacher")
        if mixes(options.augment) and any(goal.labels is not None for goal in goals):
            raise UsageError(
                "mixed samples have no labels: that augmentation is for learning from a teacher alone",
                hint="leave out the labels, or mixing",
            )
        self.variables: Mapping[str, Any] = {
            **graph.variables,
            **self._maps,
            **(quantizer.variables if quantizer is not None else {}),
        }
        self.state: Mapping[str, Any] = quantizer.state if quantizer is not None else {}
        self.metrics = tuple(name for goal in self._goals for name in self._metrics_of(goal))
        self.identity = self._identity()

    def loss(self, inputs: Sequence[Any], labels: Sequence[Any], seed: Any | None) -> tuple[Any, list[Any]]:
        tf, teacher = self._tf, self._teacher
        names = [goal.scores for goal in self._goals] + [hint.student for hint in self._hints]
        values = [tf.cast(v, tf.float32) for v in self.graph.values(inputs, names, hooks=self._hooks(seed))]
        scores = [v * goal.sharpness for v, goal in zip(values, self._goals, strict=False)]
        wanted: list[Any] = [None] * len(names)
        if teacher is not None:
            asked = [goal.scores for goal in teacher.goals] + [hint.teacher for hint in self._hints]
            wanted = [tf.stop_gradient(v) for v in teacher.graph.values(inputs, asked)]
            for i, goal in enumerate(teacher.goals):
                wanted[i] = wanted[i] * goal.sharpness
        total, metrics = tf.constant(0.0), []
        for i, goal in enumerate(self._goals):
            own = None if goal.labels is None else labels[goal.labels]
            total += goal.weight * self._goal_loss(goal, scores[i], own, wanted[i])
            if own is not None:
                metrics.append(accuracy(tf, goal.kind, scores[i], own))
            if teacher is not None:
                metrics.append(agreement(tf, goal.kind, scores[i], wanted[i]))
        for i, hint in enumerate(self._hints, start=len(self._goals)):
            projected = values[i]
            if _map_name(i - len(self._goals)) in self._maps:
                projected = tf.tensordot(projected, self._maps[_map_name(i - len(self._goals))], axes=1)
            total += hint.weight * relative_error(tf, projected, wanted[i])
        return total, metrics

    def _goal_loss(self, goal: Goal, scores: Any, labels: Any, teacher: Any) -> Any:
        tf, soft = self._tf, self._soft
        if teacher is None:
            return label_loss(tf, goal.kind, scores, labels) if labels is not None else tf.constant(0.0)
        distilled = soft_loss(tf, goal.kind, scores, teacher, soft.temperature)
        if labels is None:
            return distilled
        return (1 - soft.alpha) * label_loss(tf, goal.kind, scores, labels) + soft.alpha * distilled

    def _hooks(self, seed: Any | None) -> Hooks:
        parts: list[Hooks] = []
        if self._quantizer is not None:
            parts.append(self._quantizer.hooks(seed is not None))
        if seed is not None and self._options.dropout:
            parts.append(Dropout(self._tf, self._options.dropout, seed))
        if self._options.precision == "bfloat16":
            parts.append(Bfloat16(self._tf))
        return Chain(*parts)

    def _metrics_of(self, goal: Goal) -> list[str]:
        judged = goal.kind in (CLASSES, FLAGS)
        names = [] if goal.labels is None else ["accuracy" if judged else "rms_error"]
        if self._teacher is not None:
            names.append("agreement" if judged else "relative_error")
        return names if len(self._goals) == 1 else [f"{name}/{goal.name}" for name in names]

    def _identity(self) -> str:
        told = {
            "goals": [asdict(goal) for goal in self._goals],
            "soft": asdict(self._soft),
            "hints": [asdict(hint) for hint in self._hints],
            "quantizer": "" if self._quantizer is None else self._quantizer.identity,
            "teacher": "" if self._teacher is None else self._teacher.graph.graph.content_hash(),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _map_name(number: int) -> str:
    return f"hint {number} map"


def _maps(tf: Any, student: Graph, teacher: Graph, hints: Sequence[Hint]) -> dict[str, Any]:
    """Variables [student's channels, teacher's], for hints whose channels differ. Raises UsageError."""
    found = {}
    for i, hint in enumerate(hints):
        shapes = [_shape(student, hint.student, "student"), _shape(teacher, hint.teacher, "teacher")]
        if shapes[0][:-1] != shapes[1][:-1]:
            raise UsageError(
                f"hint '{hint.student[:80]}' is {list(shapes[0])}, the teacher's '{hint.teacher[:80]}' "
                f"{list(shapes[1])}: only the channels may differ"
            )
        if shapes[0] != shapes[1]:
            ends = shapes[0][-1], shapes[1][-1]
            limit = math.sqrt(6 / sum(ends))  # Glorot and Bengio 2010
            start = np.random.default_rng(i).uniform(-limit, limit, ends)
            found[_map_name(i)] = tf.Variable(start.astype(np.float32))
    return found


def _shape(graph: Graph, name: str, whose: str) -> tuple[int, ...]:
    try:
        return graph.tensor_by_name(name).shape
    except KeyError:
        raise UsageError(f"the {whose} has no tensor '{name[:120]}'", hint="edgeloop analyze lists them") from None
