"""ResNet8: a quarter of its work gone without training, and how many epochs reconstruction saves.

The model is adapted to these pictures first, since any training gains by that alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _compress_common import Array, OutOfTimeError, Pictures, Run, cifar, classes_of, int8_of, table

from edgeloop.graph import Graph

UNTRAINED, TRAINED = 0.75, 0.67
"""Of the multiply-accumulates."""
SAMPLES = (512, 1500)
_ROWS_A_SAMPLE = 40
HEAD = ("from", "MACs left", "way", "epochs", "float", "points", "agrees", "int8", "wall s", "CPU s")
_ADAPTING_RATE, _RATE = 5e-4, 1e-3


@dataclass(frozen=True)
class _Row:
    """start: what it is judged against."""

    start: str
    way: str
    epochs: int
    model: Graph
    wall_s: float = 0.0
    cpu_s: float = 0.0


def resnet8(run: Run) -> str:
    """The block for the document."""
    from _timing import host, shared_data

    pictures = cifar(run)
    came = Graph.read(shared_data() / "models" / "mlperf_tiny" / "pretrainedResnet.tflite")
    count, epochs = (200, {"adapting": 1, "L1": 1, "reconstruction": 1}) if run.quick else (10_000, _EPOCHS)
    rows, left_out = [_Row("as it came", "whole", 0, came)], ""
    try:
        rows.extend(_rows(run, pictures, came, count, epochs))
    except OutOfTimeError as error:
        left_out = f" Rows from {error} on were left out: no time."
    told = (
        f"Host: {host()}, TensorFlow with {run.threads} thread(s), pruning with 1. {count:,} pictures to learn from, "
        f"{len(pictures.test[0]):,} test pictures; adapted in {epochs['adapting']} epochs; batch 64, seed {run.seed}. "
        f"Seconds are those of pruning.{left_out}"
    )
    return f"{told}\n\n{table(HEAD, _judged(rows, pictures, run.seed))}"


_EPOCHS = {"adapting": 4, "L1": 5, "reconstruction": 2}


def _rows(run: Run, pictures: Pictures, came: Graph, count: int, epochs: dict[str, int]) -> Iterator[_Row]:
    adapted = run.kept(
        "resnet8-adapted", lambda folder: _trained(run, pictures, came, None, folder, count, epochs["adapting"])
    )
    yield _Row("adapted", "whole", epochs["adapting"], adapted)
    starts = {"L1": _by_l1, "reconstruction": _by_reconstruction}
    for way, pruned in starts.items():
        start = run.kept(f"resnet8-{way}-untrained", lambda _, pruned=pruned: pruned(run, pictures, adapted))  # type: ignore[misc]
        small = run.kept(
            f"resnet8-{way}",
            lambda folder, start=start, way=way: _trained(  # type: ignore[misc]
                run, pictures, start, adapted, folder, count, epochs[way]
            ),
        )
        yield _Row("adapted", f"{way}, then distilled", epochs[way], small)
    yield _untrained(run, pictures, "adapted", adapted, 16 if run.quick else SAMPLES[0])
    for samples in (16,) if run.quick else SAMPLES:
        yield _untrained(run, pictures, "as it came", came, samples)


def _untrained(run: Run, pictures: Pictures, name: str, start: Graph, count: int) -> _Row:
    from edgeloop_converters.passes import prune

    if time.monotonic() > run.until:
        raise OutOfTimeError("the models without training")
    began, cpu = time.perf_counter(), time.process_time()
    samples = pictures.samples(count)
    model, _ = prune(start, goal=UNTRAINED, samples=samples, rows=_ROWS_A_SAMPLE * count, seed=run.seed)
    took = time.perf_counter() - began, time.process_time() - cpu
    return _Row(name, f"reconstruction, {count} samples", 0, model, *took)


def _by_reconstruction(run: Run, pictures: Pictures, adapted: Graph) -> Graph:
    from edgeloop_converters.passes import prune

    samples = pictures.samples(16 if run.quick else SAMPLES[0])
    return prune(adapted, goal=TRAINED, samples=samples, seed=run.seed)[0]


def _by_l1(run: Run, pictures: Pictures, adapted: Graph) -> Graph:
    """By the smallest share of every group's channels that meets the goal, in steps of 1/64."""
    from edgeloop_converters.passes.pruning import apply_prune, plan_prune

    for step in range(1, 64):
        plan = plan_prune(adapted, amount=step / 64, score="l1")
        if plan.after["macs"] <= TRAINED * plan.before["macs"]:
            return apply_prune(adapted, plan)[0]
    raise AssertionError("half of the channels are more than a third of the work")


def _trained(
    run: Run, pictures: Pictures, start: Graph, teacher: Graph | None, folder: Path, count: int, epochs: int
) -> Graph:
    from edgeloop_converters.passes import distill, fine_tune
    from edgeloop_converters.trainable import TrainingOptions, flips_and_shifts

    options = TrainingOptions(
        epochs=epochs, batch=64, rate=_ADAPTING_RATE if teacher is None else _RATE, validation=0,
        augment=flips_and_shifts(), checkpoints=folder,
    )  # fmt: skip
    inputs, labels = pictures.learn
    data: dict[str, Any] = {"samples": inputs[:count], "labels": labels[:count], "options": options, "seed": run.seed}
    return (fine_tune(start, **data) if teacher is None else distill(start, teacher, **data))[0]


def _judged(rows: list[_Row], pictures: Pictures, seed: int) -> list[list[str]]:
    from edgeloop_converters.passes.figures import macs

    inputs, truth = pictures.test
    whole: dict[str, Array] = {}
    told = []
    for row in rows:
        found = classes_of(row.model.write(), inputs)
        base = whole.setdefault(row.start, found)
        packed = classes_of(int8_of(row.model, pictures.learn[0], seed), inputs)
        right, before = np.mean(found == truth), np.mean(base == truth)
        told.append(
            [
                row.start,
                f"{macs(row.model) / macs(rows[0].model):.3f}",
                row.way,
                str(row.epochs),
                f"{right:.2%}",
                f"{100 * (right - before):+.2f}",
                f"{np.mean(found == base):.2%}",
                f"{np.mean(packed == truth):.2%}",
                f"{row.wall_s:.0f}" if row.wall_s else "",
                f"{row.cpu_s:.0f}" if row.cpu_s else "",
            ]
        )
    return told
