"""`fine_tune` and `distill`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.train.learner import GraphLearner, Hint, Teacher
from edgeloop_converters.passes.train.losses import SoftLabels
from edgeloop_converters.passes.train.tasks import Task, goals_of
from edgeloop_converters.trainable import History, TrainableGraph, TrainingOptions, train, training_data
from edgeloop_converters.trainable.data import check_fits


def fine_tune(
    graph: Graph,
    *,
    samples: Any,
    labels: Any = None,
    tasks: Sequence[Task] = (),
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> tuple[Graph, PassReport]:
    """Train a float model's weights on labels. The graph that came in is not changed.

    samples, labels: see `training_data`. tasks: what each output learns; by default what its last op says. Raises
    UsageError (no float model, no labels) and DataError (labels that do not fit, too few samples).
    """
    options, progress, data = options or TrainingOptions(), progress or SilentProgress(), training_data(samples, labels)
    if not data.labels:
        raise UsageError("fine-tuning needs labels", hint="without labels, distill from the model that came in")
    began = time.perf_counter()
    trainable = _noted(TrainableGraph(graph), progress)
    check_fits(data, trainable.graph.inputs)
    learner = GraphLearner(trainable, goals_of(trainable.graph, tasks, data.labels), options)
    history = train(learner, data, options, seed=seed, progress=progress)
    return trainable.to_graph(), report_of("fine-tuning", history, "", time.perf_counter() - began)


def distill(
    graph: Graph,
    teacher: Graph,
    *,
    samples: Any,
    labels: Any = None,
    soft: SoftLabels | None = None,
    hints: Sequence[Hint] = (),
    tasks: Sequence[Task] = (),
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> tuple[Graph, PassReport]:
    """Train `graph`, the student, to answer as `teacher` does. Neither graph is changed.

    teacher: the model that came into the conversion, say, before it was pruned: labels are not needed then. The student
    has the teacher's inputs and outputs, in the same order; otherwise it may be any float model. Raises as `fine_tune`.
    """
    options, progress, data = options or TrainingOptions(), progress or SilentProgress(), training_data(samples, labels)
    began = time.perf_counter()
    trainable = _noted(TrainableGraph(graph), progress)
    check_fits(data, trainable.graph.inputs)
    goals = goals_of(trainable.graph, tasks, data.labels)
    learner = GraphLearner(
        trainable, goals, options, teacher=make_teacher(teacher, trainable.graph, tasks), soft=soft, hints=hints
    )
    history = train(learner, data, options, seed=seed, progress=progress)
    soft = soft or SoftLabels()
    told = f"temperature {soft.temperature:g}" + (f", alpha {soft.alpha:g}" if data.labels else ", without labels")
    return trainable.to_graph(), report_of("distillation", history, told, time.perf_counter() - began)


def make_teacher(teacher: Graph, student: Graph, tasks: Sequence[Task]) -> Teacher:
    """Raises UsageError where it takes or gives something else than the student."""
    fixed = TrainableGraph(teacher)
    here, there = fixed.graph, student
    for what, ours, theirs in (("inputs", here.inputs, there.inputs), ("outputs", here.outputs, there.outputs)):
        if [t.shape[1:] for t in ours] != [t.shape[1:] for t in theirs]:
            raise UsageError(
                f"teacher and student have different {what}: {[list(t.shape) for t in ours]} and "
                f"{[list(t.shape) for t in theirs]}"
            )
    names = {t.name: o.name for t, o in zip(there.outputs, here.outputs, strict=True)}
    own = [replace(task, output=names.get(task.output, task.output), labels=None) for task in tasks]
    return Teacher(fixed, goals_of(here, own, ()))


def report_of(name: str, history: History, told: str, seconds: float) -> PassReport:
    """The figures are those of the validation part, of which nothing was learnt; `gap` is how much better the model is
    on what it learnt from."""
    before = {f"validation {k}": v for k, v in history.before.items()}
    after = {f"validation {k}": v for k, v in history.validation.items()}
    after.update({f"training {k}": v for k, v in history.training.items()})
    after.update({f"gap {k}": v for k, v in history.gaps.items()})
    detail = ", ".join(part for part in (history.summary(), told, _gap(history)) if part)
    return PassReport(name, detail, seconds, before, after, history=tuple(e.figures() for e in history.epochs))


def _gap(history: History) -> str:
    for name, gap in history.gaps.items():
        if name.startswith("accuracy"):
            return f"generalization gap {100 * gap:.1f} pt"
    return f"generalization gap {history.gaps['loss']:.3g} of loss" if "loss" in history.gaps else ""


def _noted(trainable: TrainableGraph, progress: Progress) -> TrainableGraph:
    for note in trainable.notes:
        progress.note(note)
    return trainable
