"""What stepping down costs: accuracy against the mean cost of a sample, of every variant and of stopping at a head.

Variants are what the conversion measured. For a head, model and head answer every sample once, and each confidence is
read off those answers; what stopping costs is counted on the two files that the device cuts the model into. The
confidence that is proposed is chosen on validation samples, which nothing has learnt from; all figures are of the
evaluation data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeloop.graph import Graph
from edgeloop.graph.parts import exit_heads, halves
from edgeloop_converters.cascades import Answers, Ids, measure_answers
from edgeloop_converters.data import Dataset
from edgeloop_converters.dynamic.running_cost import Counter, RunningCost
from edgeloop_converters.export import FLOAT
from edgeloop_converters.measure import Measured, Measuring
from edgeloop_converters.recipe_steps import EXITS

AGREEMENT_GOAL = 0.98
"""Share of the validation samples that must be answered as without the head."""
SHOWN = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_TRIED = tuple(np.round(np.arange(0.3, 1.0, 0.01), 2).tolist()) + (0.995,)


@dataclass(frozen=True)
class Point:
    """One way to run the bundle. head, threshold: stop at that output from this confidence on; "" and None: whole.

    accuracy: None without labels. agreement: with the float model. stopped: share of samples that stopped. macs,
    simd_instructions: mean per sample (None where they cannot be counted); cost: as a share of the first variant's, in
    instructions where they are counted.
    """

    variant: str
    head: str
    threshold: float | None
    accuracy: float | None
    agreement: float | None
    stopped: float
    macs: float
    simd_instructions: float | None
    cost: float


@dataclass(frozen=True)
class Chosen:
    """threshold: the lowest cost within the goal, None where no confidence is within it. agreement, stopped: there, on
    the validation samples, with the model without head."""

    head: str
    threshold: float | None
    agreement: float
    stopped: float


@dataclass(frozen=True)
class DynamicTrade:
    """samples: evaluated; validation: chosen by; goal: what agreement the thresholds keep there. unit: of `cost`."""

    variant: str
    unit: str
    samples: int
    validation: int
    goal: float
    points: tuple[Point, ...]
    exits: tuple[Chosen, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_trade(measured: Sequence[Measured], how: Measuring, counter: Counter) -> DynamicTrade:
    """measured: as `make_variants` orders them. Raises as `measure_answers`."""
    first = measured[0]
    name, model, sources = first.variant.name, first.variant.model, first.candidate.sources
    graph = Graph.read(model)
    files = {m.variant.name: m.variant.model for m in measured}
    heads = {head: f"{name}-{head}" for head in exit_heads(graph)}
    with how.stages("cost"):
        costs = {variant: counter.of(file) for variant, file in files.items()}
        cuts = {head: halves(graph, head) for head in heads}
        parts = {head: (counter.of(cut.first), counter.of(cut.second)) for head, cut in cuts.items()}
    whole = costs[name]
    points = [_of_variant(m, costs[m.variant.name], whole) for m in measured]
    goal, validation, chosen = _goal(how), sources.validation, []
    if heads:
        asked = {FLOAT: first.candidate.model.tflite, name: model, **{v: files[v] for v in heads.values()}}

        def answers(data: Dataset, indices: Ids) -> Mapping[str, Answers]:
            return measure_answers(asked, sources.contract, data, indices, progress=how.progress, label="exits")

        with how.stages("exits"):
            seen = answers(sources.data.evaluation, sources.evaluation)
            tried = answers(sources.data.calibration, validation) if len(validation) else seen
        labels = sources.data.evaluation.labels
        truth = None if labels is None else labels[sources.evaluation]
        for head, variant in heads.items():
            pick = choose(head, tried[variant], tried[name], goal) if len(validation) else Chosen(head, None, 0.0, 0.0)
            chosen.append(pick)
            shown = sorted({*SHOWN, *([] if pick.threshold is None else [pick.threshold])})
            for threshold in shown:
                stopped = seen[variant].sure >= threshold
                ids = np.where(stopped, seen[variant].ids, seen[name].ids)
                accuracy = None if truth is None else float((ids == truth).mean())
                mean = parts[head][0].plus(parts[head][1], float((~stopped).mean()))
                points.append(
                    Point(
                        name, head, threshold, accuracy, float((ids == seen[FLOAT].ids).mean()),
                        float(stopped.mean()), mean.macs, mean.simd_instructions, mean.share_of(whole),
                    )
                )  # fmt: skip
    return DynamicTrade(
        name, counter.unit, len(sources.evaluation), len(validation), goal, tuple(points), tuple(chosen)
    )


def choose(head: str, light: Answers, whole: Answers, goal: float) -> Chosen:
    """Where most samples stop, of all confidences at which `goal` of the answers are those of `whole`. Pure."""
    best = Chosen(head, None, 1.0, 0.0)
    for threshold in _TRIED:
        stopped = light.sure >= threshold
        agreement = float((np.where(stopped, light.ids, whole.ids) == whole.ids).mean())
        share = float(stopped.mean())
        if agreement >= goal and share > best.stopped:
            best = Chosen(head, threshold, agreement, share)
    return best


def trade_lines(trade: Mapping[str, Any]) -> list[str]:
    """A DynamicTrade's dictionary as a table for people."""
    lines = [
        f"accuracy against mean cost: {trade['samples']} samples, cost in {trade['unit']}",
        f"  {'runs':<28} {'accuracy':>9} {'as float':>9} {'stops':>7} {'mean':>9} {'cost':>6}",
    ]
    picked = {(one["head"], one["threshold"]) for one in trade["exits"] if one["threshold"] is not None}
    for p in trade["points"]:
        name = p["variant"] if p["threshold"] is None else f"{p['variant']}, {p['head']} from {p['threshold']:g}"
        accuracy, agreement = (("-" if v is None else f"{v:.2%}") for v in (p["accuracy"], p["agreement"]))
        stops = "" if p["threshold"] is None else f"{p['stopped']:.0%}"
        mark = "  <- chosen" if (p["head"], p["threshold"]) in picked else ""
        mean = f"{mean_cost(p) / 1e6:,.3g} M"
        lines.append(f"  {name:<28} {accuracy:>9} {agreement:>9} {stops:>7} {mean:>9} {p['cost']:>6.2f}{mark}")
    for one in trade["exits"]:
        lines.append(f"  {chosen_line(one, trade)}")
    return lines


def mean_cost(point: Mapping[str, Any]) -> float:
    """Of a Point's dictionary, in the trade's unit."""
    counted = point["simd_instructions"]
    return float(point["macs"] if counted is None else counted)


def chosen_line(one: Mapping[str, Any], trade: Mapping[str, Any]) -> str:
    """What came of the choice of a threshold, for people."""
    said = f"{trade['goal']:.0%} of {trade['validation']} validation samples answered as without it"
    if one["threshold"] is None:
        return f"{one['head']}: no confidence keeps {said}"
    return f"--exit-head {one['head']}:{one['threshold']:g} keeps {one['agreement']:.1%} (goal: {said})"


def _goal(how: Measuring) -> float:
    steps = (step for step in how.recipe.passes if step.name == EXITS)
    return float(next((step.options.get("agreement", AGREEMENT_GOAL) for step in steps), AGREEMENT_GOAL))


def _of_variant(one: Measured, cost: RunningCost, whole: RunningCost) -> Point:
    metrics = one.quality.metrics
    accuracy = None if metrics.metric == "agreement" else metrics.this
    return Point(
        one.variant.name, "", None, accuracy, metrics.agreement, 0.0, cost.macs, cost.simd_instructions,
        cost.share_of(whole),
    )  # fmt: skip
