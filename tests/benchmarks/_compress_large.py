"""The larger ResNet: half the SIMD instructions, and int8 by training.

All start from one adapted model and learn from it and from labels, on the same pictures, as long and with the same
settings; the control is the adapted model trained on as long, without pruning. Test pictures are looked at once a row.
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

GOALS = (0.5, 0.6, 0.4)
AMOUNTS = (0.35, 0.3, 0.4)
"""Shares of channels; rounded to 8 they cost about what the goals do. The first ones matter most."""
TILE = 8
_ADAPTING_RATE, _RATE, _INT8_RATE = 5e-4, 1e-3, 1e-4
HEAD = (
    "model", "epochs", "SIMD A76", "SIMD A72", "MACs", "float", "float - adapted", "agrees", "int8", "int8 - adapted",
    "int8 agrees", "int8 bytes",
)  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """Epochs of each step. int8_pictures: that int8 is trained on."""

    adapting: int = 4
    round: int = 3
    rounds: int = 2
    int8: int = 1
    int8_pictures: int = 15_000
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

    plan = _Plan(1, 1, 1, 1, 200, 32, 16) if run.quick else _Plan()
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
        f"{run.seed}, {plan.samples} pictures to prune by, tile {TILE}; int8 trained on {plan.int8_pictures:,}."
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
        plan = self.plan
        pairs = list(zip(GOALS, AMOUNTS, strict=True))[: 1 if self.run.quick else None]
        (goal, amount), *others = pairs
        yield lambda: _Row("as it came", 0, self.came)
        yield lambda: _Row("adapted", 0, self.adapted())
        yield partial(self._reconstructed, goal, 1)
        yield partial(self._by_l1, amount, 1)
        for number in range(2, plan.rounds + 1):
            yield partial(self._reconstructed, goal, number)
        yield partial(self._control, 1)
        yield lambda: self._int8("adapted-int8", _Row("adapted", 0, self.adapted()))
        for goal, amount in others:
            yield partial(self._reconstructed, goal, 1)
            yield partial(self._by_l1, amount, 1)
        for number in range(2, plan.rounds + 1):
            yield partial(self._control, number)

    def adapted(self) -> Graph:
        plan = self.plan
        return self.run.kept("adapted", lambda folder: self._tuned(self.came, folder, plan.adapting, _ADAPTING_RATE))

    def _reconstructed(self, goal: float, number: int) -> _Row:
        model = self._distilled(f"reconstruction-{goal:.2f}", partial(self._by_reconstruction, goal), number)
        return _Row(f"reconstruction, to {goal:.2f}", number * self.plan.round, model)

    def _by_l1(self, amount: float, number: int) -> _Row:
        from edgeloop_converters.passes import prune

        def way() -> Graph:
            return prune(self.adapted(), amount=amount, score="l1", tile=TILE)[0]

        model = self._distilled(f"L1-uniform-{100 * amount:.0f}", way, number)
        return _Row(f"L1, uniform, {amount:.0%} off", number * self.plan.round, model)

    def _control(self, number: int) -> _Row:
        return _Row("adapted, trained on without pruning (control)", number * self.plan.round, self._more(number))

    def _more(self, number: int) -> Graph:
        if number == 0:
            return self.adapted()
        return self.run.kept(
            f"control{_again(number)}",
            lambda folder: self._tuned(self._more(number - 1), folder, self.plan.round, _RATE),
        )

    def _distilled(self, name: str, way: Callable[[], Graph], number: int) -> Graph:
        """After so many rounds."""
        if number == 0:
            return self.run.kept(f"{name}-untrained", lambda _: way())

        def make(folder: Path) -> Graph:
            from edgeloop_converters.passes import distill

            options = self._options(folder, self.plan.round, _RATE)
            start = self._distilled(name, way, number - 1)
            return distill(start, self.adapted(), **self._data(), options=options)[0]

        return self.run.kept(f"{name}{_again(number)}", make)

    def _by_reconstruction(self, goal: float) -> Graph:
        from edgeloop_converters.passes import prune

        samples = self.pictures.samples(self.plan.samples)
        whole, seed = self.adapted(), self.run.seed
        return prune(whole, goal=goal, cost=self.cost.worst_share, tile=TILE, samples=samples, seed=seed)[0]

    def _tuned(self, start: Graph, folder: Path, epochs: int, rate: float) -> Graph:
        from edgeloop_converters.passes import fine_tune

        return fine_tune(start, **self._data(), options=self._options(folder, epochs, rate))[0]

    def _int8(self, name: str, row: _Row) -> _Row:
        from edgeloop_converters.passes import qat

        def make(folder: Path) -> Graph:
            options = self._options(folder, self.plan.int8, _INT8_RATE)
            return qat(row.model, teacher=self.adapted(), **self._data(self.plan.int8_pictures), options=options)[0]

        file = self.run.kept(name, make).write()
        return replace(row, name=f"{row.name}, int8 by training", epochs=row.epochs + self.plan.int8, int8=file)

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


def _again(number: int) -> str:
    return "" if number == 1 else f"-{number}"


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
