"""What is known of a model's channels before anything is chosen: their scores, and what narrower groups lose.

Looked at once, a survey plans for any amount, threshold, goal or widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.passes.figures import Cost, figures, macs
from edgeloop_converters.passes.pruning import widths as choose
from edgeloop_converters.passes.pruning.channels import find_channels
from edgeloop_converters.passes.pruning.consumers import group_consumers
from edgeloop_converters.passes.pruning.plan import GroupPlan, Merge, PrunePlan
from edgeloop_converters.passes.pruning.scores import SCORES, Array, Evidence, Gradients, covariances, explained
from edgeloop_converters.passes.pruning.seen import blas_threads
from edgeloop_converters.passes.pruning.sensitivity import is_affordable, output_losses
from edgeloop_converters.passes.pruning.slicing import kept_classes, slice_channels
from edgeloop_converters.passes.samples import Given, as_samples

_ROWS = 20_000


class Survey:
    """Of one graph by one score and tile. Losses at the model's output are measured when a goal first asks for them,
    and what a graph of some widths costs is asked of `cost` once."""

    def __init__(
        self,
        graph: Graph,
        *,
        score: str = "l1",
        tile: int = 1,
        cost: Cost = macs,
        samples: Given = (),
        gradients: Gradients | None = None,
        labels: Array | None = None,
        keep: Sequence[str] = (),
        seed: int = 0,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """score: a name of `scores.SCORES`. tile: widths are multiples of it (`Target.channel_tile`). cost: what a goal
        counts. samples: float inputs, needed by the scores that look at activations; with "reconstruction" and a goal,
        what a width costs is measured at the model's output. labels: of the samples, for "taylor", which asks the
        model's own outputs without them. keep: groups that stay whole. Raises UsageError.
        """
        if score not in SCORES:
            raise UsageError(f"score '{score}' is not known", hint=f"one of: {', '.join(SCORES)}")
        if tile < 1:
            raise UsageError(f"tile must be at least 1, got {tile}")
        samples = as_samples(graph, samples)
        self.graph, self.samples, self.score = graph, samples, score
        self._tile, self._cost, self._seed, self._progress = tile, cost, seed, progress
        self._channels = channels = find_channels(graph)
        for name in keep:
            channels.group(name)
        if not channels.groups:
            raise UsageError(
                "no channels of this model can be removed", hint="every layer feeds an output or an unknown op"
            )
        self._consumers = {}
        with blas_threads(threads):
            if score == "reconstruction":
                self._consumers = group_consumers(graph, channels, samples, rows=_ROWS, seed=seed, threads=threads)
            self._evidence = Evidence(graph, channels, samples, threads, gradients, self._consumers, labels, seed)
            self._rankings = {name: r for name, r in SCORES[score](self._evidence).items() if name not in keep}
        self._full = {name: ranking.width for name, ranking in self._rankings.items()}
        self._losses: dict[str, dict[int, float]] | None = None
        self._known: dict[tuple[int, ...], float] = {}

    def plan(
        self,
        *,
        amount: float | None = None,
        threshold: float | None = None,
        goal: float | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> PrunePlan:
        """Exactly one of

        amount: share of every group's channels that goes. threshold: theta; channels with a score above it stay. goal:
        what `cost(pruned)` may be, as a share of `cost(graph)`; groups are narrowed where that loses least. widths:
        name of a group -> channels that stay. Raises UsageError, and GoalNotMetError for a goal out of reach.
        """
        if len([v for v in (amount, threshold, goal, widths) if v is not None]) != 1:
            raise UsageError("pruning takes exactly one of amount, threshold, goal and widths")
        if widths is not None:
            chosen, why = {**self._full, **self._checked(widths)}, "as asked"
        elif amount is not None:
            chosen, why = choose.uniform(self._full, amount, self._tile), f"{amount:.0%} by {self.score}"
        elif threshold is not None:
            chosen = choose.by_threshold(self._rankings, threshold, self._tile)
            why = f"{self.score} above {threshold:g}"
        else:
            assert goal is not None
            chosen, why = self._within(goal)
        return self._planned(chosen, why)

    def _within(self, goal: float) -> tuple[dict[str, int], str]:
        if not 0 < goal <= 1:
            raise UsageError(f"goal is a share of the cost, 0 < goal <= 1, got {goal:g}")
        measured = bool(self._consumers) and is_affordable(self._evidence, len(self._rankings))
        if measured and self._losses is None:
            self._losses = output_losses(
                self._evidence, self._rankings, self._tile, seed=self._seed, progress=self._progress
            )
        limit = goal * self._cost_of(self._full)
        chosen = choose.by_cost(self._rankings, self._cost_of, limit, self._tile, losses=self._losses)
        return chosen, f"least {'measured ' if measured else ''}loss by {self.score} for the cost saved"

    def _cost_of(self, chosen: Mapping[str, int]) -> float:
        key = tuple(chosen[name] for name in self._full)
        if key not in self._known:
            self._known[key] = self._cost(self._narrowed(chosen))
        return self._known[key]

    def _narrowed(self, chosen: Mapping[str, int]) -> Graph:
        return slice_channels(self.graph, self._channels, kept_classes(self._channels, self._kept(chosen)))

    def _kept(self, chosen: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        return {name: self._rankings[name].kept(width) for name, width in chosen.items()}

    def _checked(self, widths: Mapping[str, int]) -> dict[str, int]:
        for name, width in widths.items():
            self._channels.group(name)
            if name in self._rankings and not 1 <= width <= self._rankings[name].width:
                raise UsageError(
                    f"group '{name}' has {self._rankings[name].width} channels, {width} of them cannot stay"
                )
        return {name: width for name, width in widths.items() if name in self._rankings}

    def _planned(self, chosen: Mapping[str, int], why: str) -> PrunePlan:
        smaller, kept = self._narrowed(chosen), self._kept(chosen)
        before, after = figures(self.graph), figures(smaller)
        if self._cost is not macs:
            before, after = {**before, "cost": self._cost_of(self._full)}, {**after, "cost": self._cost_of(chosen)}
        merges = _merges(self._evidence, kept) if self.score == "correlation" else {}
        groups = tuple(
            GroupPlan(
                g.name, g.width, kept[g.name], why if len(kept[g.name]) < g.width else "whole", merges.get(g.name, ())
            )
            for g in self._channels.groups
            if g.name in kept
        )
        return PrunePlan(self.score, groups, before, after)


def plan_prune(
    graph: Graph,
    *,
    amount: float | None = None,
    threshold: float | None = None,
    goal: float | None = None,
    widths: Mapping[str, int] | None = None,
    **look: Any,
) -> PrunePlan:
    """One plan of a `Survey(graph, **look)`; nothing is changed."""
    return Survey(graph, **look).plan(amount=amount, threshold=threshold, goal=goal, widths=widths)


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
