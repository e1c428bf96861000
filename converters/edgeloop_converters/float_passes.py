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
from edgeloop_converters.recipe_steps import PassStep

if TYPE_CHECKING:
    from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]

_SAMPLES = 512


@dataclass(frozen=True)
class Setting:
    """What passes may look at: calibration data through the contract, never the evaluation's."""

    contract: Contract
    data: Dataset
    indices: npt.NDArray[np.int64]
    target: Target
    seed: int
    progress: Progress

    def samples(self, model: bytes, count: int) -> list[tuple[Array, ...]]:
        """At most `count` samples as the model takes them, drawn by the seed."""
        from edgeloop_converters.calibration import model_inputs

        chosen = np.random.default_rng(self.seed).permutation(self.indices)[:count]
        # The reader reuses its buffers.
        return [tuple(a.copy() for a in arrays) for arrays in model_inputs(self.contract, model, self.data, chosen)]


Run = Callable[[Graph, Mapping[str, Any], Setting], "tuple[Graph, PassReport]"]


@dataclass(frozen=True)
class Lighter:
    """The float model after the passes, and what each had to say."""

    tflite: bytes
    reports: tuple[PassReport, ...] = ()


def run_float_passes(model: bytes, steps: Sequence[PassStep], setting: Setting) -> Lighter:
    """One after the other; each sees what the one before it left. Raises UsageError where a pass cannot work on it."""
    graph, reports = Graph.read(model), []
    for step in steps:
        graph, report = _PASSES[step.name](graph, step.options, setting)
        reports.append(report)
    return Lighter(graph.write() if steps else model, tuple(reports))


def _prune(graph: Graph, options: Mapping[str, Any], setting: Setting) -> tuple[Graph, PassReport]:
    from edgeloop_converters.passes.prune import prune

    given = dict(options)
    samples = setting.samples(graph.write(), given.pop("samples", _SAMPLES))
    if not samples:
        raise UsageError("pruning looks at samples", hint="--data DIR")
    given.setdefault("tile", setting.target.channel_tile)
    return prune(graph, samples=samples, seed=setting.seed, progress=setting.progress, **given)


_PASSES: Mapping[str, Run] = {"prune": _prune}
