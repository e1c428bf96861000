"""A recipe's passes that train: their options read, their data opened, and a folder to go on from after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop import paths
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.graph.parts import exit_heads

if TYPE_CHECKING:
    from edgeloop_converters.float_passes import Setting
    from edgeloop_converters.passes.report import PassReport
    from edgeloop_converters.passes.train import SoftLabels, Task
    from edgeloop_converters.trainable import TrainingData, TrainingOptions

_WEIGHT_OF_HEADS = 0.3


def distilled(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    """The teacher is the float model that came into the conversion."""
    from edgeloop_converters.passes import distill

    has_labels = bool(options.get("labels", False))
    data = _data(graph, options, setting, labels=has_labels)
    with _training("distill", graph, options, setting) as how:
        return distill(
            graph, _teacher(graph, setting), samples=data, soft=_soft(options), options=how,
            tasks=_tasks(graph, labels=has_labels), progress=setting.progress, seed=setting.seed,
        )  # fmt: skip


def fine_tuned(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    """On the data's labels, which it needs."""
    from edgeloop_converters.passes import fine_tune

    data = _data(graph, options, setting, labels=True)
    with _training("fine-tune", graph, options, setting) as how:
        tasks = _tasks(graph, labels=True)
        return fine_tune(graph, samples=data, options=how, tasks=tasks, progress=setting.progress, seed=setting.seed)


def sparsified(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    """At once, or with `epochs` in steps, after each of which it learns from the teacher what was lost."""
    from edgeloop_converters.passes import sparsify

    own = {key: options[key] for key in ("amount", "threshold", "by_layer", "steps") if key in options}
    training = {key: value for key, value in options.items() if key not in own}

    def tuned(sparse: Graph) -> Graph:
        return distilled(sparse, training, setting)[0]

    return sparsify(graph, progress=setting.progress, tune=tuned if training else None, **own)


def quantized(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, bytes, PassReport]:
    """(the float model as trained, its int8 file, report). teacher: the model that came in, unless labels are learnt
    from and `teacher` does not ask for it.
    """
    from edgeloop_converters.passes.train import train_int8
    from edgeloop_converters.passes.train.quantized import Stage

    has_labels = bool(options.get("labels", setting.has_labels))
    data = _data(graph, options, setting, labels=has_labels)
    teacher = _teacher(graph, setting) if options.get("teacher", not has_labels) else None
    with _training("qat", graph, options, setting) as how:
        done = train_int8(
            graph, samples=data, teacher=teacher, soft=_soft(options), ranges=options.get("ranges", "learnt"),
            tasks=_tasks(graph, labels=has_labels), stages=[Stage(**stage) for stage in options.get("stages", ())],
            options=how, progress=setting.progress, seed=setting.seed,
        )  # fmt: skip
    return done.graph, done.tflite, done.report


def _teacher(graph: Graph, setting: Setting) -> Graph:
    """The float model that came in; it says its answer once more for every exit head of the student."""
    teacher = Graph.read(setting.original)
    answer = teacher.main.outputs[setting.contract.output.index]
    teacher.main.outputs.extend([answer] * len(exit_heads(graph)))
    return teacher


def _tasks(graph: Graph, *, labels: bool) -> tuple[Task, ...]:
    """() where outputs learn by themselves. Heads learn the answer's labels, at less weight: the answer comes first."""
    from edgeloop_converters.passes.train import Task

    names, heads = [tensor.name for tensor in graph.outputs], len(exit_heads(graph))
    if not heads:
        return ()
    own = [Task(name) for name in names[:-heads]]
    return (*own, *(Task(name, weight=_WEIGHT_OF_HEADS, labels=0 if labels else None) for name in names[-heads:]))


def _data(graph: Graph, options: Mapping[str, Any], setting: Setting, *, labels: bool) -> TrainingData:
    from edgeloop_converters.trainable import DatasetData
    from edgeloop_converters.trainable.data import without_labels

    if labels and not setting.has_labels:
        raise UsageError("training on labels needs labelled data", hint="labels = false, or distill, needs none")
    indices = np.random.default_rng(setting.seed).permutation(setting.indices)[: options.get("samples")]
    found: TrainingData = DatasetData(setting.data.subset(np.sort(indices)), setting.contract, graph.write())
    return found if labels else without_labels(found)


def _soft(options: Mapping[str, Any]) -> SoftLabels:
    from edgeloop_converters.passes.train import SoftLabels

    return SoftLabels(**{key: options[key] for key in ("temperature", "alpha") if key in options})


def _events(name: str, identity: str, setting: Setting) -> Path | None:
    """A folder for each training: those of several trials lie beside each other."""
    base = setting.around.tensorboard
    return None if base is None else base / f"{name}-{identity[:8]}"


@contextmanager
def _training(name: str, graph: Graph, options: Mapping[str, Any], setting: Setting) -> Iterator[TrainingOptions]:
    """How to train, with a checkpoint folder that the same training finds again; it goes when the training is done."""
    from edgeloop_converters.trainable import TrainingOptions
    from edgeloop_converters.trainable.augmenting import augment_named

    known = {field.name for field in fields(TrainingOptions)} - {"augment"}
    given = {key: value for key, value in options.items() if key in known}
    said = json.dumps([name, dict(options), setting.seed, setting.data.source], sort_keys=True, default=str)
    identity = hashlib.sha256(graph.write() + setting.original + said.encode()).hexdigest()[:24]
    folder: Path = paths.cache_dir() / "training" / identity
    augment = augment_named(options.get("augment", "none"))
    if folder.is_dir():
        setting.progress.note(f"{name}: goes on from where the same training stopped ({folder})")
    deadline = setting.around.deadline
    yield TrainingOptions(
        augment=augment, checkpoints=folder, tensorboard=_events(name, identity, setting),
        stop=lambda: deadline.is_over, **given,
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
