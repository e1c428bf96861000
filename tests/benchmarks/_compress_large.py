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
        try:
            rows.extend(_Work(run, plan, pictures, cost).rows(came))
        except OutOfTimeError as error:
            left_out = f" Rows from {error} on were left out: no time."
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

    def rows(self, came: Graph) -> Iterator[_Row]:
        """In the order in which they matter."""
        plan, quick = self.plan, self.run.quick
        yield _Row("as it came", 0, came)
        adapted = self.run.kept("adapted", lambda folder: self._tuned(came, folder, plan.adapting, _ADAPTING_RATE))
        yield _Row("adapted", 0, adapted)
        ways: dict[str, tuple[str, Callable[[], Graph]]] = {}
        for goal, amount in list(zip(GOALS, AMOUNTS, strict=True))[: 1 if quick else None]:
            ways[f"reconstruction-{goal:.2f}"] = (
                f"reconstruction, to {goal:.2f}", partial(self._by_reconstruction, adapted, goal)
            )  # fmt: skip
            ways[f"L1-uniform-{100 * amount:.0f}"] = f"L1, uniform, {amount:.0%} off", partial(_by_l1, adapted, amount)
        best, *others = ways
        after = {name: self._pruned(name, *ways[name], adapted) for name in ways}
        yield next(after[best])
        yield next(after[others[0]])
        small = next(after[best])
        yield small
        file = self._int8(f"{best}-int8", small.model, adapted)
        yield replace(small, name=f"{small.name}, int8 by training", epochs=small.epochs + plan.int8, int8=file)
        control = adapted
        for number in range(1, plan.rounds + 1):
            start = control
            control = self.run.kept(
                f"control{_again(number)}",
                lambda folder, start=start: self._tuned(start, folder, plan.round, _RATE),  # type: ignore[misc]
            )
            yield _Row("adapted, trained on without pruning (control)", number * plan.round, control)
        yield _Row("adapted, int8 by training", plan.int8, adapted, self._int8("adapted-int8", adapted, adapted))
        for name in others:
            yield from after[name]

    def _pruned(self, name: str, title: str, way: Callable[[], Graph], adapted: Graph) -> Iterator[_Row]:
        """Without training, which is no row, then after each round."""
        model = self.run.kept(f"{name}-untrained", lambda _: way())
        for number in range(1, self.plan.rounds + 1):
            start = model
            model = self.run.kept(
                f"{name}{_again(number)}",
                lambda folder, start=start: self._distilled(start, adapted, folder),  # type: ignore[misc]
            )
            yield _Row(title, number * self.plan.round, model)

    def _by_reconstruction(self, adapted: Graph, goal: float) -> Graph:
        from edgeloop_converters.passes import prune

        samples = self.pictures.samples(self.plan.samples)
        return prune(adapted, goal=goal, cost=self.cost.worst_share, tile=TILE, samples=samples, seed=self.run.seed)[0]

    def _tuned(self, start: Graph, folder: Path, epochs: int, rate: float) -> Graph:
        from edgeloop_converters.passes import fine_tune

        return fine_tune(start, **self._data(), options=self._options(folder, epochs, rate))[0]

    def _distilled(self, start: Graph, adapted: Graph, folder: Path) -> Graph:
        from edgeloop_converters.passes import distill

        return distill(start, adapted, **self._data(), options=self._options(folder, self.plan.round, _RATE))[0]

    def _int8(self, name: str, start: Graph, adapted: Graph) -> bytes:
        from edgeloop_converters.passes import qat

        options = self._options(self.run.work / f"{name}.checkpoints", self.plan.int8, _INT8_RATE)
        data = self._data(self.plan.int8_pictures)
        return self.run.kept(name, lambda _: qat(start, teacher=adapted, **data, options=options)[0]).write()

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


def _by_l1(adapted: Graph, amount: float) -> Graph:
    from edgeloop_converters.passes import prune

    return prune(adapted, amount=amount, score="l1", tile=TILE)[0]


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
