"""A recipe's passes over the float model, which make it smaller before it is quantized."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.costs import CostSetting, cost_named
from edgeloop_converters.data import Dataset
from edgeloop_converters.kept_passes import Done
from edgeloop_converters.recipe_options import HOW_MUCH
from edgeloop_converters.recipe_steps import PRUNE, QAT, PassStep
from edgeloop_converters.shared_work import Around, key_of

if TYPE_CHECKING:
    from edgeloop_converters.passes.figures import Cost
    from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]

_SAMPLES = 512
_SCORE = "reconstruction"
_SAMPLES_OF_EXITS = 4_000
_CHECKED_ON = 16
_LOOKED_AT = 32


@dataclass(frozen=True)
class Setting:
    """What passes may look at: calibration data through the contract, never the evaluation's.

    original: the float model that came into the conversion.
    """

    contract: Contract
    data: Dataset
    indices: npt.NDArray[np.int64]
    target: Target
    seed: int
    progress: Progress
    original: bytes
    around: Around = field(default_factory=Around)

    @property
    def has_labels(self) -> bool:
        return self.data.labels is not None

    @property
    def identity(self) -> str:
        """Of what passes look at beside the model: another conversion's results are not this one's."""

        def found() -> str:
            seen = [array.tobytes() for arrays in self.samples(self.original, _LOOKED_AT) for array in arrays]
            labels = b"" if self.data.labels is None else np.asarray(self.data.labels)[self.indices].tobytes()
            told = (self.contract.to_dict(), self.data.source, len(self.data), self.around.device)
            return key_of(labels, b"".join(seen), *told)

        return self.around.work.once(key_of("identity", self.original, self.indices.tobytes(), self.seed), found)

    @property
    def watched(self) -> Progress:
        """For passes that have nothing to show for half their work: they end when the time does."""
        return self.around.deadline.watch(self.progress)

    def samples(self, model: bytes, count: int) -> list[tuple[Array, ...]]:
        """At most `count` samples as the model takes them, drawn by the seed."""
        from edgeloop_converters.calibration import model_inputs

        chosen = self._drawn(count)
        # The reader reuses its buffers.
        return [tuple(a.copy() for a in arrays) for arrays in model_inputs(self.contract, model, self.data, chosen)]

    def labels(self, count: int) -> Array:
        """Of the same samples. Raises UsageError where there are none."""
        if self.data.labels is None:
            raise UsageError("the score 'taylor' asks for labels, and the data have none", hint="labels = false")
        return np.asarray(self.data.labels[self._drawn(count)])

    def _drawn(self, count: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng(self.seed).permutation(self.indices)[:count]


Run = Callable[[Graph, Mapping[str, Any], Setting], "tuple[Graph, PassReport]"]


@dataclass(frozen=True)
class Lighter:
    """The float model after the passes, and what each had to say. int8: its int8 file, where one pass trained that.
    stages: the float model after each."""

    tflite: bytes
    int8: bytes | None = None
    reports: tuple[PassReport, ...] = ()
    stages: tuple[bytes, ...] = ()


def run_float_passes(model: bytes, steps: Sequence[PassStep], setting: Setting) -> Lighter:
    """One after the other; each sees what the one before it left. Raises UsageError where a pass cannot work on it.

    A run that begins as an earlier one did goes on from where they part.
    """
    graph, int8, reports, stages = model, None, [], []
    key = key_of(model, setting.original, setting.indices.tobytes(), setting.seed, setting.target.id)
    for step in steps:
        key = key_of(key, step.name, dict(step.options))
        done = setting.around.work.once(key, partial(_kept, key, graph, step, setting))
        graph, int8 = done.tflite, done.int8
        reports.append(done.report)
        stages.append(graph)
    return Lighter(graph, int8, tuple(reports), tuple(stages))


def _kept(key: str, model: bytes, step: PassStep, setting: Setting) -> Done:
    """From where a conversion that was killed had come to, if it had done this."""
    kept = setting.around.kept
    if kept is None:
        return _run(model, step, setting)
    key = key_of(key, setting.identity)
    found = kept.load(key)
    if found is not None:
        setting.progress.note(f"{step.name}: taken over from the same conversion, which did not come to its end")
        return found
    done = _run(model, step, setting)
    if not setting.around.deadline.is_over:  # what the time cut short is done in full by who has more
        kept.save(key, done)
    return done


def _run(model: bytes, step: PassStep, setting: Setting) -> Done:
    from edgeloop_converters.float_training import quantized

    graph = Graph.read(model)
    if step.name == QAT:
        trained, int8, report = quantized(graph, step.options, setting)
        return Done(trained.write(), report, int8)
    made, report = _PASSES[step.name]()(graph, step.options, setting)
    return Done(made.write(), report)


def _prune(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    """What is known of the channels is looked at once for all goals."""
    from edgeloop_converters.passes.pruning import Survey, apply_prune

    began = time.monotonic()
    given = {"samples": _SAMPLES, "tile": setting.target.channel_tile, "cost": "macs", **options}
    how = {key: given.pop(key) for key in HOW_MUCH[PRUNE] if key in given}
    repair, pairs = bool(given.pop("repair", True)), bool(given.pop("pairs", True))

    def look() -> Survey:
        samples = _seen(graph, setting, given["samples"])
        cost = _cost(given["cost"], setting)
        with_labels = given.get("labels", setting.has_labels) and given.get("score") == "taylor"
        return Survey(
            graph, labels=setting.labels(given["samples"]) if with_labels else None,
            score=given.get("score", _SCORE), tile=given["tile"], cost=cost, samples=samples, seed=setting.seed,
            progress=setting.watched,
        )  # fmt: skip

    survey = setting.around.work.once(
        key_of("survey", graph.write(), given, setting.indices.tobytes(), setting.seed), look
    )
    return apply_prune(
        graph, survey.plan(**how), samples=survey.samples, repair=repair, pairs=pairs, seed=setting.seed,
        progress=setting.watched, started=began,
    )  # fmt: skip


def _prune_blocks(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import prune_blocks

    how = {key: value for key, value in options.items() if key not in ("samples", "cost")}
    return prune_blocks(
        graph, samples=_seen(graph, setting, options.get("samples", _SAMPLES)),
        cost=_cost(options.get("cost", "macs"), setting), seed=setting.seed, progress=setting.watched, **how,
    )  # fmt: skip


def _seen(graph: Graph, setting: Setting, count: int) -> Sequence[tuple[Array, ...]]:
    samples = setting.samples(graph.write(), count)
    if not samples:
        raise UsageError("pruning looks at samples", hint="--data DIR")
    return samples


def _cost(name: str, setting: Setting) -> Cost:
    return cost_named(name, CostSetting(setting.target, setting.around, setting.progress))


def _optimize(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import optimize_graph

    samples = setting.samples(graph.write(), _CHECKED_ON)
    return optimize_graph(graph, samples=samples, progress=setting.progress, seed=setting.seed, **options)


def _sparsify() -> Run:
    from edgeloop_converters.float_training import sparsified

    return sparsified


def _exits(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import add_exits
    from edgeloop_converters.passes.dynamic.exits import AT

    at = options.get("at", AT)
    samples = setting.samples(graph.write(), options.get("samples", _SAMPLES_OF_EXITS))
    return add_exits(
        graph, samples=samples, at=at if isinstance(at, (list, tuple)) else (at,), seed=setting.seed,
        output=setting.contract.output.index, progress=setting.progress,
    )  # fmt: skip


def _distill() -> Run:
    from edgeloop_converters.float_training import distilled

    return distilled


def _fine_tune() -> Run:
    from edgeloop_converters.float_training import fine_tuned

    return fine_tuned


_PASSES: Mapping[str, Callable[[], Run]] = {
    "optimize": lambda: _optimize,
    "prune": lambda: _prune,
    "prune-blocks": lambda: _prune_blocks,
    "sparsify": _sparsify,
    "exits": lambda: _exits,
    "distill": _distill,
    "fine-tune": _fine_tune,
}
