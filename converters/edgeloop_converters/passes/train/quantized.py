"""Quantization-aware training: the model learns with the rounding that int8 will bring, and is exported as it learnt.

The first quantization decides which tensors are int8 and which share a scale; training moves weights and ranges; the
last one writes codes, scales and ranges as they were learnt, so that the file computes what was trained.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.passes.codes import Refinement, operands
from edgeloop_converters.passes.packed import Group, PackedModel, weighted_ops
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.train.learner import GraphLearner
from edgeloop_converters.passes.train.losses import SoftLabels
from edgeloop_converters.passes.train.quantizer import LEARNT, RANGES, FakeQuantizer
from edgeloop_converters.passes.train.tasks import Task, goals_of
from edgeloop_converters.passes.train.tuning import make_teacher, report_of
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.trainable import History, TrainableGraph, TrainingData, TrainingOptions, train, training_data
from edgeloop_converters.trainable.data import check_fits
from edgeloop_converters.trainable.imports import import_tensorflow
from edgeloop_converters.trainable.options import is_whole

Array = npt.NDArray[Any]

CALIBRATION_SAMPLES = 200
_BITS = range(2, 9)


@dataclass(frozen=True)
class Stage:
    """One step of progressive quantization. bits: of the weights, 8 to 2; those of the first and the last layer stay at
    8. share: of the layers, in the order in which they run, that are rounded; 1: all of them and every tensor."""

    epochs: int
    bits: int = 8
    share: float = 1.0

    def __post_init__(self) -> None:
        if not is_whole(self.epochs, 1) or self.bits not in _BITS or not 0 < self.share <= 1:
            raise UsageError(f"{self}: epochs are a whole number from 1, bits 2 to 8, the share above 0 and at most 1")


@dataclass(frozen=True)
class TrainedInt8:
    """graph: the float model as trained. refinement: its ranges, codes and biases, as `quantize_int8` takes them.

    tflite: the int8 file of both. histories: one per stage.
    """

    graph: Graph
    refinement: Refinement
    tflite: bytes
    report: PassReport
    histories: tuple[History, ...]


def qat(
    graph: Graph,
    *,
    samples: Any,
    labels: Any = None,
    teacher: Graph | None = None,
    soft: SoftLabels | None = None,
    tasks: Sequence[Task] = (),
    ranges: str = LEARNT,
    stages: Sequence[Stage] = (),
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> tuple[Graph, PassReport]:
    """`train_int8`, giving the int8 graph."""
    done = train_int8(
        graph, samples=samples, labels=labels, teacher=teacher, soft=soft, tasks=tasks, ranges=ranges, stages=stages,
        options=options, progress=progress, seed=seed,
    )  # fmt: skip
    return Graph.read(done.tflite), done.report


def train_int8(
    graph: Graph,
    *,
    samples: Any,
    labels: Any = None,
    teacher: Graph | None = None,
    soft: SoftLabels | None = None,
    tasks: Sequence[Task] = (),
    ranges: str = LEARNT,
    stages: Sequence[Stage] = (),
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> TrainedInt8:
    """Train a float model for int8. The graph that came in is not changed.

    samples, labels: see `training_data`. teacher: a float model to answer as; without labels the graph that came in is
    its own. ranges: "learnt" or "moving". stages: progressive quantization; default: one, all in 8 bits, for the
    options' epochs. Raises UsageError (no float model, ops that cannot be quantized) and DataError.
    """
    options, progress, data = options or TrainingOptions(), progress or SilentProgress(), training_data(samples, labels)
    if ranges not in RANGES:
        raise UsageError(f"ranges {ranges!r} are not known", hint=f"one of: {', '.join(RANGES)}")
    if options.precision != "float32":
        raise UsageError("quantization-aware training computes in float32: bfloat16 is coarser than int8's own steps")
    began = time.perf_counter()
    trainable = TrainableGraph(graph)
    for note in trainable.notes:
        progress.note(note)
    check_fits(data, trainable.graph.inputs)
    if teacher is None and not data.labels:
        teacher = graph
    packed = _first_packing(trainable, data, seed, progress)
    goals = goals_of(trainable.graph, tasks, data.labels)
    fixed = None if teacher is None else make_teacher(teacher, trainable.graph, tasks)
    quantizer, histories = None, []
    for number, stage in enumerate(stages or (Stage(options.epochs),)):
        quantizer = _quantizer(packed, stage, ranges, quantizer)
        learner = GraphLearner(trainable, goals, options, teacher=fixed, soft=soft, quantizer=quantizer)
        own = replace(options, epochs=stage.epochs, checkpoints=_part(options.checkpoints, number))
        if stages:
            own = replace(own, tensorboard=_part(options.tensorboard, number))
            progress.note(f"stage {number + 1} of {len(stages)}: {_told(stage)}")
        histories.append(train(learner, data, own, seed=seed + number, progress=progress))
    assert quantizer is not None
    refinement, tflite = _exported(trainable, packed, quantizer)
    told = f"ranges {ranges}" + (f", stages {'; '.join(map(_told, stages))}" if stages else "")
    report = report_of("quantization-aware training", histories[-1], told, time.perf_counter() - began)
    report = replace(report, history=tuple(e.figures() for h in histories for e in h.epochs))
    return TrainedInt8(trainable.to_graph(), replace(refinement, reports=(report,)), tflite, report, tuple(histories))


def _first_packing(trainable: TrainableGraph, data: TrainingData, seed: int, progress: Progress) -> PackedModel:
    float_model = trainable.graph.write()
    chosen = np.random.default_rng(seed).permutation(len(data))[:CALIBRATION_SAMPLES]
    read = zip(data.read(np.sort(chosen).astype(np.int64)), trainable.graph.inputs, strict=True)
    columns = [column.astype(tensor.dtype) for column, tensor in read]
    samples = [[column[i : i + 1] for column in columns] for i in range(len(chosen))]
    measured = calibrate(float_model, samples, progress=progress)
    return PackedModel(float_model, quantize_int8(float_model, measured, progress=progress).tflite, measured)


def _quantizer(packed: PackedModel, stage: Stage, ranges: str, shared: FakeQuantizer | None) -> FakeQuantizer:
    main = packed.graph.main
    ops = weighted_ops(packed.graph)
    names = [main.tensors[op.inputs[operands(op)[0]]].name for op in ops]
    bits = {name: stage.bits for name in names[1:-1] if stage.bits < 8}
    layers = None
    if stage.share < 1:
        last = ops[max(1, round(len(ops) * stage.share)) - 1]
        done = main.ops[: main.ops.index(last) + 1]
        layers = {main.tensors[i].name for op in done for i in (*op.inputs, *op.outputs) if i >= 0}
    return FakeQuantizer(import_tensorflow(), packed, ranges=ranges, bits=bits, layers=layers, shared=shared)


def _exported(trainable: TrainableGraph, packed: PackedModel, quantizer: FakeQuantizer) -> tuple[Refinement, bytes]:
    """Quantized anew with the ranges learnt, because other constants than weights were trained too."""
    limits = dict(packed.ranges)
    for group, limit in zip(packed.groups, quantizer.ranges(), strict=True):
        for index in group.members:
            limits[packed.graph.main.tensors[index].name] = limit
    learnt = Ranges(limits, CALIBRATION_SAMPLES, "trained")
    weights = trainable.weights()
    codes = {name: quantizer.codes(name, weights[name]) for name in quantizer.weights if name in weights}
    float_model = trainable.to_graph().write()
    last = PackedModel(float_model, quantize_int8(float_model, learnt).tflite, learnt)
    # The first packing's groups: which ops share a scale must not depend on how the learnt ranges happen to fall.
    for group, limit in zip(packed.groups, quantizer.ranges(), strict=True):
        names = [packed.graph.main.tensors[index].name for index in group.members]
        last.set_range(Group(group.name, tuple(last.graph.main.index_of(name) for name in names)), limit)
    for name, value in codes.items():
        last.set_weight(name, value)
    return Refinement(learnt, codes), last.write()


def _part(folder: Path | str | None, number: int) -> Path | None:
    return None if folder is None else Path(folder) / f"stage-{number}"


def _told(stage: Stage) -> str:
    share = "" if stage.share == 1 else f", the first {stage.share:.0%} of the layers"
    return f"{stage.epochs} epoch{'s' if stage.epochs > 1 else ''} in {stage.bits} bits{share}"
