"""Structured pruning as a plan: which channels of which group go, why, and what that saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.passes.figures import Cost, figures, macs
from edgeloop_converters.passes.pruning import widths as choose
from edgeloop_converters.passes.pruning.channels import Channels, find_channels
from edgeloop_converters.passes.pruning.consumers import group_consumers
from edgeloop_converters.passes.pruning.scores import SCORES, Evidence, Gradients, covariances, explained
from edgeloop_converters.passes.pruning.seen import Samples, blas_threads
from edgeloop_converters.passes.pruning.sensitivity import is_affordable, output_losses
from edgeloop_converters.passes.pruning.slicing import kept_classes, slice_channels
from edgeloop_converters.passes.pruning.widths import Ranking

_ROWS = 20_000


@dataclass(frozen=True)
class Merge:
    """Channel `gone` is about slope * channel `into` + shift; positions in the group."""

    gone: int
    into: int
    slope: float
    shift: float


@dataclass(frozen=True)
class GroupPlan:
    """kept: positions in the group, rising. reason: for people. merges: what the kept ones take over (score
    "correlation").
    """

    name: str
    width: int
    kept: tuple[int, ...]
    reason: str
    merges: tuple[Merge, ...] = ()


@dataclass(frozen=True)
class PrunePlan:
    """before, after: macs, bytes (of float weights), peak_memory_bytes, and cost where another one is the goal."""

    score: str
    groups: tuple[GroupPlan, ...]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        return {group.name: group.kept for group in self.groups}

    def lines(self) -> list[str]:
        """For people, one per group and one for the whole."""
        told = [f"{g.name[-60:]}: {g.width} -> {len(g.kept)} channels, {g.reason}" for g in self.groups]
        saved = ", ".join(
            f"{name} {self.before[name]:,.0f} -> {self.after[name]:,.0f} ({self.after[name] / self.before[name]:.2f}x)"
            for name in self.before
            if self.before[name]
        )
        return [*told, f"predicted: {saved}"]


def plan_prune(
    graph: Graph,
    *,
    amount: float | None = None,
    threshold: float | None = None,
    goal: float | None = None,
    widths: Mapping[str, int] | None = None,
    score: str = "l1",
    tile: int = 1,
    cost: Cost = macs,
    samples: Samples = (),
    gradients: Gradients | None = None,
    keep: Sequence[str] = (),
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> PrunePlan:
    """How to prune; nothing is changed. Exactly one of

    amount: share of every group's channels that goes. threshold: theta; channels with a score above it stay. goal: what
    `cost(pruned)` may be, as a share of `cost(graph)`; groups are narrowed where that loses least. widths: name of a
    group -> channels that stay.

    score: a name of `scores.SCORES`. tile: widths are multiples of it (`Target.channel_tile`). samples: float inputs,
    needed by the scores that look at activations; with "reconstruction" and a goal, what a width costs is measured at
    the model's output. keep: groups that stay whole. Raises UsageError, and GoalNotMetError for a goal out of reach.
    """
    given = [v for v in (amount, threshold, goal, widths) if v is not None]
    if len(given) != 1:
        raise UsageError("pruning takes exactly one of amount, threshold, goal and widths")
    if score not in SCORES:
        raise UsageError(f"score '{score}' is not known", hint=f"one of: {', '.join(SCORES)}")
    if tile < 1:
        raise UsageError(f"tile must be at least 1, got {tile}")
    channels = find_channels(graph)
    for name in (*keep, *(widths or {})):
        channels.group(name)
    if not channels.groups:
        raise UsageError(
            "no channels of this model can be removed", hint="every layer feeds an output or an unknown op"
        )
    consumers = {}
    with blas_threads(threads):
        if score == "reconstruction":
            consumers = group_consumers(graph, channels, samples, rows=_ROWS, seed=seed, threads=threads)
        evidence = Evidence(graph, channels, samples, threads, gradients, consumers)
        rankings = {name: r for name, r in SCORES[score](evidence).items() if name not in keep}

    def narrowed(chosen: Mapping[str, int]) -> Graph:
        return slice_channels(graph, channels, kept_classes(channels, _kept(rankings, chosen)))

    full = {name: ranking.width for name, ranking in rankings.items()}
    if widths is not None:
        chosen, why = {**full, **_checked(widths, rankings)}, "as asked"
    elif amount is not None:
        chosen, why = choose.uniform(full, amount, tile), f"{amount:.0%} by {score}"
    elif threshold is not None:
        chosen, why = choose.by_threshold(rankings, threshold, tile), f"{score} above {threshold:g}"
    else:
        assert goal is not None
        if not 0 < goal <= 1:
            raise UsageError(f"goal is a share of the cost, 0 < goal <= 1, got {goal:g}")
        measured = bool(consumers) and is_affordable(evidence, len(rankings))
        losses = output_losses(evidence, rankings, tile, seed=seed, progress=progress) if measured else None
        known: dict[tuple[int, ...], float] = {}

        def cost_of(chosen: Mapping[str, int]) -> float:
            key = tuple(chosen[name] for name in full)
            if key not in known:
                known[key] = cost(narrowed(chosen))
            return known[key]

        chosen = choose.by_cost(rankings, cost_of, goal * cost(graph), tile, losses=losses)
        why = f"least {'measured ' if measured else ''}loss by {score} for the cost saved"
    smaller = narrowed(chosen)
    before, after = figures(graph), figures(smaller)
    if cost is not macs:
        before, after = {**before, "cost": cost(graph)}, {**after, "cost": cost(smaller)}
    kept = _kept(rankings, chosen)
    merges = _merges(evidence, kept) if score == "correlation" else {}
    groups = tuple(
        GroupPlan(
            g.name, g.width, kept[g.name], why if len(kept[g.name]) < g.width else "whole", merges.get(g.name, ())
        )
        for g in channels.groups
        if g.name in kept
    )
    return PrunePlan(score, groups, before, after)


def _checked(widths: Mapping[str, int], rankings: Mapping[str, Ranking]) -> dict[str, int]:
    for name, width in widths.items():
        if name in rankings and not 1 <= width <= rankings[name].width:
            raise UsageError(f"group '{name}' has {rankings[name].width} channels, {width} of them cannot stay")
    return {name: width for name, width in widths.items() if name in rankings}


def _kept(rankings: Mapping[str, Ranking], chosen: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {name: rankings[name].kept(width) for name, width in chosen.items()}


def _merges(evidence: Evidence, kept: Mapping[str, Sequence[int]]) -> dict[str, tuple[Merge, ...]]:
    """Every channel that goes is taken over by the kept one that explains most of it."""
    found = {}
    for name, moments in covariances(evidence).items():
        if name not in kept:
            continue
        share, covariance = explained(moments)
        stay, mean = np.asarray(kept[name]), moments[-1, :-1]
        merges = []
        for gone in np.setdiff1d(np.arange(len(mean)), stay).tolist():
            into = int(stay[np.argmax(share[gone, stay])])
            slope = float(covariance[gone, into] / max(covariance[into, into], 1e-12))
            merges.append(Merge(gone, into, slope, float(mean[gone] - slope * mean[into])))
        found[name] = tuple(merges)
    return found


def channels_of(graph: Graph, plan: PrunePlan) -> Channels:
    """Of the graph that the plan was made for. Raises UsageError for another one."""
    channels = find_channels(graph)
    for group in plan.groups:
        if channels.group(group.name).width != group.width:
            raise UsageError(f"the plan is for another model: group '{group.name}' was {group.width} channels wide")
    return channels
