"""KWS from unlabelled samples alone: pruned with reconstruction, then distilled from the model that came in.

Half of the samples are learnt from, without labels, and the other half judges; then the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _compress_common import Array, Instructions, OutOfTimeError, Run, classes_of, instructions, int8_of, table

from edgeloop.graph import Graph

GAINS = (1.3, 1.5, 2.0)
TILE = 8
_SHIFT, _NOISE = 4, 2.0
"""Frames, and the most noise; the features' spread is 8.9."""
_BATCH, _RATE, _TEMPERATURE = 50, 2e-3, 2.0
HEAD = (
    "judging half", "model", "SIMD A76", "SIMD A72", "without training, float", "float", "int8",
    "int8 - as it came", "int8 agrees",
)  # fmt: skip


@dataclass(frozen=True)
class _Half:
    """name: of the half that judges. learn: inputs of the other one."""

    name: str
    learn: Array
    judge: Array
    classes: Array


def kws(run: Run) -> str:
    """The block for the document."""
    from _timing import host

    model, halves = _read(run)
    epochs = 2 if run.quick else 200
    rows, left_out = [], ""
    with instructions(model) as cost:
        for half in halves[:1] if run.quick else halves:
            whole = classes_of(model.write(), half.judge)
            right = float(np.mean(whole == half.classes))
            first = [half.name, "as it came", "1.00", "1.00", "", f"{right:.2%}", *_int8(model, half, whole, run)]
            try:
                for gain in GAINS[:1] if run.quick else GAINS:
                    found = [half.name, f"{gain:g}x", *_row(gain, model, half, whole, cost, epochs, run)]
                    rows += [found] if first in rows else [first, found]
            except OutOfTimeError as error:
                left_out += f" No time for {error} and after."
    told = (
        f"Host: {host()}, TensorFlow with {run.threads} thread(s). {len(halves[0].learn)} samples to learn from, "
        f"without labels, and {len(halves[0].judge)} to judge; {epochs} epochs, batch {_BATCH}, seed {run.seed}, "
        f"tile {TILE}.{left_out}"
    )
    return f"{told}\n\n{table(HEAD, rows)}"


def _read(run: Run) -> tuple[Graph, tuple[_Half, _Half]]:
    from _subjects import CONFIRMATION, DEVELOPMENT, subjects

    found = {}
    for split in (DEVELOPMENT, CONFIRMATION):
        with subjects(["kws"], split, 0) as [subject]:
            found[split] = subject.tests["samples"]
    first, second = found[DEVELOPMENT], found[CONFIRMATION]
    assert first.classes is not None and second.classes is not None
    few = 50 if run.quick else len(first.inputs)
    return Graph.read(subject.model), (
        _Half("second", first.inputs[:few], second.inputs[:few], second.classes[:few]),
        _Half("first", second.inputs[:few], first.inputs[:few], first.classes[:few]),
    )


def _row(gain: float, model: Graph, half: _Half, whole: Array, cost: Instructions, epochs: int, run: Run) -> list[str]:
    name = f"kws-{half.name}-{gain:g}"
    pruned = run.kept(f"{name}-untrained", lambda _: _pruned(model, gain, half, cost, run))
    small = run.kept(name, lambda folder: _distilled(pruned, model, half, epochs, folder, run))
    floats = [f"{np.mean(classes_of(graph.write(), half.judge) == half.classes):.2%}" for graph in (pruned, small)]
    return [*(f"{value:.2f}" for value in cost.gains(small).values()), *floats, *_int8(small, half, whole, run)]


def _pruned(model: Graph, gain: float, half: _Half, cost: Instructions, run: Run) -> Graph:
    from edgeloop_converters.passes import prune

    samples = [(sample[None],) for sample in half.learn]
    return prune(model, goal=1 / gain, cost=cost.worst_share, tile=TILE, samples=samples, seed=run.seed)[0]


def _distilled(pruned: Graph, model: Graph, half: _Half, epochs: int, folder: Path, run: Run) -> Graph:
    from edgeloop_converters.passes import distill
    from edgeloop_converters.passes.train.losses import SoftLabels
    from edgeloop_converters.trainable import TrainingOptions

    options = TrainingOptions(
        epochs=epochs, batch=_BATCH, rate=_RATE, validation=0, augment=moved_mixed_and_noisy, checkpoints=folder
    )
    soft = SoftLabels(temperature=_TEMPERATURE)
    return distill(pruned, model, samples=half.learn, soft=soft, options=options, seed=run.seed)[0]


def moved_mixed_and_noisy(inputs: tuple[Array, ...], random: np.random.Generator) -> tuple[Array, ...]:
    """Features [batch, frames, coefficients, 1] moved in time, with a share of another sample, and with noise: the
    teacher says what such an input is. They are what the contract makes of sound, so sound itself is not at hand."""
    features = inputs[0]
    count, frames = features.shape[:2]
    shifts = random.integers(-_SHIFT, _SHIFT + 1, count)
    at = np.clip(np.arange(frames)[None] - shifts[:, None], 0, frames - 1)
    moved = np.take_along_axis(features, at[:, :, None, None], axis=1)
    share = random.uniform(0.5, 1.0, (count, 1, 1, 1))
    mixed = share * moved + (1 - share) * moved[random.permutation(count)]
    noise = random.normal(0, _NOISE, mixed.shape) * random.random((count, 1, 1, 1))
    return (np.asarray(mixed + noise, np.float32),)


def _int8(graph: Graph, half: _Half, whole: Array, run: Run) -> list[str]:
    """int8, its difference to what came in, how often it agrees with that."""
    got = classes_of(int8_of(graph, half.learn, run.seed), half.judge)
    right: Any = np.mean(got == half.classes)
    return [f"{right:.2%}", f"{100 * (right - np.mean(whole == half.classes)):+.2f}", f"{np.mean(got == whole):.2%}"]
