"""A recipe's passes over the float model, which make it smaller before it is quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.data import Dataset
from edgeloop_converters.recipe_steps import QAT, PassStep

if TYPE_CHECKING:
    from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]

_SAMPLES = 512
_CHECKED_ON = 16


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

    @property
    def has_labels(self) -> bool:
        return self.data.labels is not None

    def samples(self, model: bytes, count: int) -> list[tuple[Array, ...]]:
        """At most `count` samples as the model takes them, drawn by the seed."""
        from edgeloop_converters.calibration import model_inputs

        chosen = np.random.default_rng(self.seed).permutation(self.indices)[:count]
        # The reader reuses its buffers.
        return [tuple(a.copy() for a in arrays) for arrays in model_inputs(self.contract, model, self.data, chosen)]


Run = Callable[[Graph, Mapping[str, Any], Setting], "tuple[Graph, PassReport]"]


@dataclass(frozen=True)
class Lighter:
    """The float model after the passes, and what each had to say. int8: its int8 file, where one pass trained that."""

    tflite: bytes
    int8: bytes | None = None
    reports: tuple[PassReport, ...] = ()


def run_float_passes(model: bytes, steps: Sequence[PassStep], setting: Setting) -> Lighter:
    """One after the other; each sees what the one before it left. Raises UsageError where a pass cannot work on it."""
    if not steps:
        return Lighter(model)
    from edgeloop_converters.float_training import quantized

    graph, int8, reports = Graph.read(model), None, []
    for step in steps:
        if step.name == QAT:
            graph, int8, report = quantized(graph, step.options, setting)
        else:
            graph, report = _PASSES[step.name]()(graph, step.options, setting)
        reports.append(report)
    return Lighter(graph.write(), int8, tuple(reports))


def _prune(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import prune

    given = dict(options)
    samples = setting.samples(graph.write(), given.pop("samples", _SAMPLES))
    if not samples:
        raise UsageError("pruning looks at samples", hint="--data DIR")
    given.setdefault("tile", setting.target.channel_tile)
    given.update(samples=samples, seed=setting.seed, progress=setting.progress)
    kind = given.pop("cost", "macs")
    if kind != "arm":
        from edgeloop_converters.passes.figures import weight_bytes

        return prune(graph, cost=weight_bytes, **given) if kind == "bytes" else prune(graph, **given)
    from edgeloop_converters.arm_cost import arm_cost

    with arm_cost(setting.target, setting.progress) as cost:
        return prune(graph, cost=cost, **given)


def _optimize(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import optimize_graph

    samples = setting.samples(graph.write(), _CHECKED_ON)
    return optimize_graph(graph, samples=samples, progress=setting.progress, seed=setting.seed, **options)


def _sparsify(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes import sparsify

    return sparsify(graph, progress=setting.progress, **options)


def _distill() -> Run:
    from edgeloop_converters.float_training import distilled

    return distilled


def _fine_tune() -> Run:
    from edgeloop_converters.float_training import fine_tuned

    return fine_tuned


_PASSES: Mapping[str, Callable[[], Run]] = {
    "optimize": lambda: _optimize,
    "prune": lambda: _prune,
    "sparsify": lambda: _sparsify,
    "distill": _distill,
    "fine-tune": _fine_tune,
}
