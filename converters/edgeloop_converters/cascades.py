"""What a cascade of two models trades: accuracy against time over the confidence asked of the light one, measured.

Both models answer every sample once, in turns, on one thread and this host; every threshold is then read off those
answers. The device decides by the same confidence (`edgeloop.postprocess.confidence`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract, OutputSpec
from edgeloop.errors import UsageError
from edgeloop.postprocess import compile_output
from edgeloop.postprocess.confidence import confidence
from edgeloop.preprocess import compile_inputs
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.data import Dataset

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MAX_LOSS = 0.005
"""What the threshold that is proposed may lose of the heavy model's accuracy, or of its answers where nothing is
labelled."""

if TYPE_CHECKING:
    from edgeloop.bundle import Bundle

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """One model over n samples. ids: best classes [n]; sure: confidences [n]; ms: time of each invoke [n]."""

    ids: Ids
    sure: npt.NDArray[np.float64]
    ms: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CascadePoint:
    """threshold: confidence from which the light one's answer stands; 0 is the light one alone, None the heavy one.

    escalated: share of samples that needed the heavy one. accuracy: None without labels. agreement: share of samples
    answered as the heavy one does. cost: mean time relative to the heavy one alone.
    """

    threshold: float | None
    escalated: float
    accuracy: float | None
    agreement: float
    cost: float


@dataclass(frozen=True)
class CascadeTrade:
    """light_ms, heavy_ms: medians of n runs on this host, one thread. proposed: the cheapest threshold that loses at
    most MAX_LOSS; None where none does and is cheaper than the heavy one alone. is_exit: light is the exit head, an
    output of the model heavy, and light_ms the time up to there."""

    light: str
    heavy: str
    n: int
    light_ms: float
    heavy_ms: float
    points: tuple[CascadePoint, ...]
    proposed: float | None
    is_exit: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def trade(
    light: tuple[str, Answers], heavy: tuple[str, Answers], labels: Ids | None, *, is_exit: bool = False
) -> CascadeTrade:
    """The curve of two models over the same samples. is_exit: the light one is the heavy one's first part. Pure."""
    (light_name, a), (heavy_name, b) = light, heavy
    light_ms, heavy_ms = float(np.median(a.ms)), float(np.median(b.ms))
    asked_ms = heavy_ms - light_ms if is_exit else heavy_ms

    def at(threshold: float | None) -> CascadePoint:
        asks = np.ones(len(a.ids), bool) if threshold is None else a.sure < threshold
        ids = np.where(asks, b.ids, a.ids)
        return CascadePoint(
            threshold,
            float(asks.mean()),
            None if labels is None else float((ids == labels).mean()),
            float((ids == b.ids).mean()),
            1.0 if threshold is None else (light_ms + float(asks.mean()) * asked_ms) / heavy_ms,
        )

    points = tuple(at(t) for t in (0.0, *THRESHOLDS, None))
    return CascadeTrade(light_name, heavy_name, len(a.ids), light_ms, heavy_ms, points, _proposed(points), is_exit)


def _proposed(points: Sequence[CascadePoint]) -> float | None:
    def good(point: CascadePoint) -> float:
        return point.agreement if point.accuracy is None else point.accuracy

    wanted = good(points[-1]) - MAX_LOSS
    fitting = [p for p in points[1:-1] if good(p) >= wanted and p.cost < 1.0]
    return min(fitting, key=lambda p: p.cost).threshold if fitting else None


def measure_answers(
    models: Mapping[str, bytes],
    contract: Contract,
    dataset: Dataset,
    indices: Sequence[int] | Ids,
    *,
    outputs: Mapping[str, OutputSpec] = MappingProxyType({}),
    progress: Progress | None = None,
    label: str = "cascade",
) -> dict[str, Answers]:
    """Every model over the samples, in turns on one thread. outputs: of models that have another than the contract's.
    Raises UsageError where results have no confidence,
    DataError for samples that cannot be read or do not fit."""
    with ExitStack() as stack:
        lanes = {}
        for name, model in models.items():
            session = stack.enter_context(open_session(model))
            output = outputs.get(name, contract.output)
            lanes[name] = (
                session, compile_inputs(contract.inputs, session.inputs), compile_output(output, session.outputs)
            )  # fmt: skip
        found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in models}
        with (progress or SilentProgress()).step(label, total=len(indices)) as advance:
            for index in indices:
                frame = dataset.sample(int(index))
                for name, (session, prepare, decode) in lanes.items():
                    for i, array in enumerate(prepare(frame)):
                        session.set_input(i, array)
                    began = time.perf_counter()
                    session.invoke()
                    took_ms = (time.perf_counter() - began) * 1e3
                    result = decode([session.output(i) for i in range(len(session.outputs))])
                    sure = confidence(result)
                    if sure is None:
                        raise UsageError(
                            f"a cascade needs a classification, this contract's output is {contract.output.kind}",
                            hint="only answers with a confidence can be asked again",
                        )
                    found[name].append((result.top[0].class_id if result.top else -1, sure, took_ms))
                advance(1)
    return {name: Answers(*(np.asarray(column) for column in zip(*rows, strict=True))) for name, rows in found.items()}


def cascade_lines(one: Mapping[str, Any]) -> list[str]:
    """A CascadeTrade's dictionary as a table for people."""
    what, first, last = ("exit head", "head", "whole") if one.get("is_exit") else ("cascade", "light", "heavy")
    lines = [
        f"{what} {one['light']} then {one['heavy']}: {one['n']} samples, {one['light_ms']:.3g} and "
        f"{one['heavy_ms']:.3g} ms on this host, 1 thread",
        f"  {'confidence asked':<18} {'accuracy':>9} {f'as {last}':>9} {f'asked {last}':>12} {'time':>6}",
    ]
    for point in one["points"]:
        name = {None: f"{last} alone", 0.0: f"{first} alone"}.get(point["threshold"], f"{point['threshold']}")
        accuracy = "-" if point["accuracy"] is None else f"{point['accuracy']:.2%}"
        lines.append(
            f"  {name:<18} {accuracy:>9} {point['agreement']:>9.2%} {point['escalated']:>12.0%} {point['cost']:>6.2f}"
        )
    if one["proposed"] is not None:
        flag = "--exit-head" if one.get("is_exit") else "--cascade"
        lines.append(f"  cheapest without a loss above {MAX_LOSS:.1%}: {flag} {one['light']}:{one['proposed']:g}")
    else:
        lines.append("  no threshold is cheaper than the heavy model alone without losing more than 0.5%")
    return lines


def measure_cascade(
    light: str,
    heavy: tuple[str, bytes],
    contract: Contract,
    dataset: Dataset,
    indices: Ids,
    *,
    bundle: Bundle | None,
    progress: Progress | None = None,
) -> CascadeTrade:
    """light: a variant of the bundle, or a .tflite file. Raises UsageError, ConfigError."""
    from edgeloop.bundle.packer import read_model

    if light.endswith(".tflite"):
        model = read_model(Path(light))
    elif bundle is not None:
        model = bundle.model(light)
    else:
        raise UsageError(f"--cascade {light}: a model file has no variants", hint="name a .tflite file")
    if model == heavy[1]:
        raise UsageError(f"--cascade {light}: that is the model itself", hint="name a lighter one")
    name = Path(light).stem if light.endswith(".tflite") else light
    answers = measure_answers({name: model, heavy[0]: heavy[1]}, contract, dataset, indices, progress=progress)
    labels = None if dataset.labels is None else dataset.labels[indices]
    return trade((name, answers[name]), (heavy[0], answers[heavy[0]]), labels)


def measure_exit(
    output: str,
    heavy: tuple[str, bytes],
    contract: Contract,
    dataset: Dataset,
    indices: Ids,
    *,
    progress: Progress | None = None,
) -> CascadeTrade:
    """The trade of stopping at the model's output `output`. Raises UsageError."""
    from edgeloop.graph import Graph
    from edgeloop.graph.parts import halves

    head = halves(Graph.read(heavy[1]), output).first
    outputs = {output: replace(contract.output, index=0, name="")}
    answers = measure_answers(
        {output: head, heavy[0]: heavy[1]}, contract, dataset, indices, outputs=outputs, progress=progress
    )
    labels = None if dataset.labels is None else dataset.labels[indices]
    return trade((output, answers[output]), (heavy[0], answers[heavy[0]]), labels, is_exit=True)
