"""The larger ResNet: half the SIMD instructions, and int8 by training.

All start from one adapted model. Pairs of about the same cost, ours and L1's, are trained alike for a few epochs, which
gives the Pareto table. The one that halves the instructions is then trained longer, and so is the control: the adapted
model without pruning, on labels. Test pictures are looked at once a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _compress_common import (
    Array,
    Instructions,
    OutOfTimeError,
    Pictures,
    Run,
    cifar,
    classes_of,
    instructions,
    int8_of,
    table,
)

from edgeloop.graph import Graph

PAIRS = ((0.5, 0.35), (0.6, 0.2), (0.7, 0.15), (0.4, 0.4))
"""Shares of the instructions that may stay, and shares of the channels by which L1, rounded to 8, costs about as much.
The first pair matters most."""
TILE = 8
_ADAPTING_RATE, _RATE = 5e-4, 1e-3
HEAD = (
    "model", "epochs", "SIMD A76", "SIMD A72", "MACs", "float", "float - adapted", "agrees", "int8", "int8 - adapted",
    "int8 agrees", "int8 bytes",
)  # fmt: skip


@dataclass(frozen=True)
class _Int8:
    """How int8 is trained. pictures: how many of them; None: all."""

    epochs: int
    pictures: int | None
    rate: float


@dataclass(frozen=True)
class _Plan:
    """Epochs of each step. short: of every pair; long: of the first one. whole, small: int8 of the adapted model, and
    of the pruned one."""

    adapting: int = 4
    short: int = 3
    long: int = 12
    whole: _Int8 = _Int8(1, 15_000, 1e-4)
    small: _Int8 = _Int8(3, None, 2e-4)
    batch: int = 64
    samples: int = 256


@dataclass(frozen=True)
class _Row:
    """epochs: after the adapting. int8: where it was trained; else quantized from `model`."""

    name: str
    epochs: int
    model: Graph
    int8: bytes = b""


def large(run: Run) -> str:
    """The block for the document."""
    from _timing import host, shared_data

    few = _Int8(1, 200, 1e-4)
    plan = _Plan(1, 1, 2, few, few, 32, 16) if run.quick else _Plan()
    pictures = cifar(run)
    came = Graph.read(shared_data() / "models" / "mlperf_tiny" / "pretrainedResnet_large_float.tflite")
    with instructions(came) as cost:
        rows, left_out = [], ""
        for make in _Work(run, plan, pictures, cost, came).rows():
            try:
                rows.append(make())
            except OutOfTimeError as error:
                left_out += f" No time for {error}."
        judged = _judged(rows, pictures, cost, run.seed)
    told = (
        f"Host: {host()}, TensorFlow with {run.threads} thread(s). {len(pictures.learn[0]):,} pictures to learn from, "
        f"{len(pictures.test[0]):,} test pictures; adapted in {plan.adapting} epochs; batch {plan.batch}, seed "
        f"{run.seed}, {plan.samples} pictures to prune by, tile {TILE}; int8 of the adapted model trained on "
        f"{plan.whole.pictures:,}."
    )
    return f"{told}{left_out}\n\n{table(HEAD, judged)}"


@dataclass(frozen=True)
class _Work:
    run: Run
    plan: _Plan
    pictures: Pictures
    cost: Instructions
    came: Graph

    def rows(self) -> Iterator[Callable[[], _Row]]:
        """Ways to make them, in the order in which they matter."""
        short, long = self.plan.short, self.plan.long
        (goal, amount), *others = PAIRS[: 1 if self.run.quick else None]
        yield lambda: _Row("as it came", 0, self.came)
        yield lambda: _Row("adapted", 0, self.adapted())
        yield lambda: self._int8("adapted-int8", _Row("adapted", 0, self.adapted()), self.plan.whole)
        yield partial(self._reconstructed, goal, long)
        yield partial(self._control, long)
        yield lambda: self._int8(f"reconstruction-{goal:.2f}-int8", self._reconstructed(goal, long), self.plan.small)
        yield partial(self._reconstructed, goal, short)
        yield partial(self._by_l1, amount, short)
        for goal, amount in others:
            yield partial(self._reconstructed, goal, short)
            yield partial(self._by_l1, amount, short)

    def adapted(self) -> Graph:
        plan = self.plan
        return self.run.kept("adapted", lambda folder: self._tuned(self.came, folder, plan.adapting, _ADAPTING_RATE))

    def _reconstructed(self, goal: float, epochs: int) -> _Row:
        model = self._distilled(f"reconstruction-{goal:.2f}", partial(self._by_reconstruction, goal), epochs)
        return _Row(f"reconstruction, to {goal:.2f}", epochs, model)

    def _by_l1(self, amount: float, epochs: int) -> _Row:
        from edgeloop_converters.passes import prune

        def way() -> Graph:
            return prune(self.adapted(), amount=amount, score="l1", tile=TILE)[0]

        model = self._distilled(f"L1-uniform-{100 * amount:.0f}", way, epochs)
        return _Row(f"L1, uniform, {amount:.0%} off", epochs, model)

    def _control(self, epochs: int) -> _Row:
        model = self.run.kept(f"control-{epochs}", lambda folder: self._tuned(self.adapted(), folder, epochs, _RATE))
        return _Row("adapted, trained on without pruning (control)", epochs, model)

    def _distilled(self, name: str, way: Callable[[], Graph], epochs: int) -> Graph:
        def make(folder: Path) -> Graph:
            from edgeloop_converters.passes import distill

            start = self.run.kept(f"{name}-untrained", lambda _: way())
            options = self._options(folder, epochs, _RATE)
            return distill(start, self.adapted(), **self._data(), options=options)[0]

        return self.run.kept(f"{name}-{epochs}", make)

    def _by_reconstruction(self, goal: float) -> Graph:
        from edgeloop_converters.passes import prune

        samples = self.pictures.samples(self.plan.samples)
        whole, seed = self.adapted(), self.run.seed
        return prune(whole, goal=goal, cost=self.cost.worst_share, tile=TILE, samples=samples, seed=seed)[0]

    def _tuned(self, start: Graph, folder: Path, epochs: int, rate: float) -> Graph:
        from edgeloop_converters.passes import fine_tune

        return fine_tune(start, **self._data(), options=self._options(folder, epochs, rate))[0]

    def _int8(self, name: str, row: _Row, way: _Int8) -> _Row:
        from edgeloop_converters.passes import qat

        def make(folder: Path) -> Graph:
            options = self._options(folder, way.epochs, way.rate)
            return qat(row.model, teacher=self.adapted(), **self._data(way.pictures), options=options)[0]

        file = self.run.kept(name, make).write()
        return replace(row, name=f"{row.name}, int8 by training", epochs=row.epochs + way.epochs, int8=file)

    def _data(self, count: int | None = None) -> dict[str, Any]:
        inputs, labels = self.pictures.learn
        return {"samples": inputs[:count], "labels": labels[:count], "seed": self.run.seed}

    def _options(self, folder: Path, epochs: int, rate: float) -> Any:
        """Without a part to validate by: the last weights of a falling rate, so that no row is chosen by its epochs."""
        from edgeloop_converters.trainable import TrainingOptions, flips_and_shifts

        return TrainingOptions(
            epochs=epochs, batch=self.plan.batch, rate=rate, validation=0, augment=flips_and_shifts(),
            checkpoints=folder, checkpoint_steps=100,
        )  # fmt: skip


def _judged(rows: list[_Row], pictures: Pictures, cost: Instructions, seed: int) -> list[list[str]]:
    """Against the row "adapted", the second one."""
    from edgeloop_converters.passes.figures import macs

    inputs, truth = pictures.test
    base = classes_of(rows[1].model.write(), inputs)
    right, work = _percent(base == truth), macs(rows[0].model)
    told = []
    for row in rows:
        files = row.model.write(), row.int8 or int8_of(row.model, pictures.learn[0], seed)
        cells = [row.name, str(row.epochs), *(f"{gain:.2f}" for gain in cost.gains(row.model).values())]
        cells.append(f"{macs(row.model) / work:.2f}")
        for file in files:
            found = classes_of(file, inputs)
            score = _percent(found == truth)
            cells += [f"{score:.2f} %", f"{score - right:+.2f}", f"{_percent(found == base):.2f} %"]
        told.append([*cells, f"{len(files[1]):,}"])
    return told


def _percent(flags: Array) -> float:
    return 100 * float(np.mean(flags))
