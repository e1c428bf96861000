"""Trials of a search, made and judged: cheap looks first, all that is known of a model only for those that may hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeloop.bundle import Metrics
from edgeloop.errors import GoalNotMetError, UsageError
from edgeloop_converters.buckets import Basis
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.deadline import Deadline
from edgeloop_converters.evaluate import run_models, summarize
from edgeloop_converters.export import FLOAT, REFINED_EFFORTS
from edgeloop_converters.gate import missed_quality
from edgeloop_converters.goals import Goals
from edgeloop_converters.measure import Candidate, Measuring
from edgeloop_converters.recipe_steps import FLOAT_PASSES, QAT, PassStep
from edgeloop_converters.search import Look, Search, Trial
from edgeloop_converters.strategy import Strategy

Export = Callable[[Basis], tuple[Candidate, tuple[Finding, ...]]]
Note = Callable[[str], None]

_FIRST_LOOK = 400
_ERRORS_APART = 2.0
"""Standard errors that a first look must miss the budget by, to be the only one."""


def run_trials(
    basis: Basis, how: Measuring, export: Export, strategy: Strategy, deadline: Deadline, note: Note
) -> tuple[Trial[Candidate], ...]:
    """In the order in which they were made. What `deadline` cut off is said, and is none of them."""
    maker = _Maker(basis, how, export, strategy, note)
    with how.progress.step("trials", total=len(strategy.shares)) as advance:

        def make(share: float, trained: bool) -> Candidate | None:
            try:
                return maker.make(share, trained)
            finally:
                advance(1)

        search = Search(strategy.budget, make, maker.look, note, lambda: deadline.left_s)
        return search.run(strategy.shares, trains=strategy.trains)


class _Maker:
    """Trials are quantized without the refinement, which takes longer than all else of a small change and brings back
    tenths of a point: it is done for those that miss by no more than that."""

    def __init__(self, basis: Basis, how: Measuring, export: Export, strategy: Strategy, note: Note) -> None:
        self._basis, self._how, self._export, self._strategy, self._note = basis, how, export, strategy, note
        self._looks: dict[int, Look] = {}

    def make(self, share: float, trained: bool) -> Candidate | None:
        """None where it cannot go so low, or the time was up before it was there."""
        steps = self._strategy.steps(share, trained)
        began = time.monotonic()
        try:
            made = self._export(with_passes(self._basis, steps, effort="fast"))[0]
        except (GoalNotMetError, UsageError) as error:  # the whole model has been exported: nothing is lost
            self._note(f"trial at {share:.0%} of the cost: {error.message}")
            return None
        metrics = self._judged(made)
        if missed_quality(self._strategy.budget, metrics) and self._is_worth_refining(made, metrics):
            made = self._export(with_passes(self._basis, steps))[0]
            metrics = self._judged(made)
        cost = _cost_of(made)
        self._looks[id(made)] = Look(
            metrics, len(made.exported.model), cost and cost[1] / cost[0], time.monotonic() - began,
            None if cost is None else cost[1],
        )  # fmt: skip
        return made

    def look(self, made: Candidate) -> Look:
        return self._looks[id(made)]

    def _judged(self, made: Candidate) -> Metrics:
        """On a part of the validation samples first: a clear miss is not looked at any longer."""
        every = made.sources.validation
        if len(every) > 2 * _FIRST_LOOK:
            chosen = np.sort(np.random.default_rng(self._how.recipe.seed).permutation(every)[:_FIRST_LOOK])
            metrics = validated(made, self._how, chosen)
            if is_clear_miss(self._strategy.budget, metrics):
                return metrics
        return validated(made, self._how)

    def _is_worth_refining(self, made: Candidate, metrics: Metrics) -> bool:
        """Whether the float model of the trial holds, so that it is int8 that misses."""
        recipe = self._how.recipe
        if recipe.effort not in REFINED_EFFORTS or not made.exported.stages:
            return False
        if is_clear_miss(self._strategy.budget, metrics):
            return False
        lite = replace(made.exported, model=made.exported.stages[-1], name=f"{FLOAT}-lite")
        return not missed_quality(self._strategy.budget, validated(replace(made, exported=lite), self._how))


def is_clear_miss(budget: Goals, metrics: Metrics) -> bool:
    """Whether more samples are not expected to change that the budget is missed."""
    agreement = metrics.agreement
    if agreement is None or not metrics.n:
        return False
    # Two models' accuracies differ on samples that they answer differently: the variance of the difference is at most
    # the share of those.
    error = _ERRORS_APART * math.sqrt(max(agreement * (1 - agreement), 1 / metrics.n) / metrics.n)
    wide = _ERRORS_APART * math.sqrt(max(1 - agreement, 1 / metrics.n) / metrics.n)
    drops = metrics.float_ is not None and metrics.this is not None and budget.max_drop is not None
    if drops and (metrics.float_ or 0) - (metrics.this or 0) - wide > (budget.max_drop or 0):
        return True
    return budget.min_agreement is not None and agreement + error < budget.min_agreement


def validated(candidate: Candidate, how: Measuring, indices: npt.NDArray[np.int64] | None = None) -> Metrics:
    """The exported file against its float model on the validation samples, or on some of them."""
    sources, name = candidate.sources, candidate.exported.name
    with how.stages("trials judged"):
        evaluation = run_models(
            {FLOAT: candidate.model.tflite, name: candidate.exported.model}, sources.contract,
            sources.data.calibration, sources.validation if indices is None else indices, reference=FLOAT,
            threads=how.threads or 2, progress=how.progress, label="validating",
        )  # fmt: skip
    return summarize(evaluation, name, reference=FLOAT, scorer=None).metrics


def with_passes(basis: Basis, added: Sequence[PassStep], effort: str = "") -> Basis:
    """The recipe with these passes behind its own over the float model. Training for int8 does without calibration.

    effort: in place of the recipe's.
    """
    recipe = basis.recipe
    quantizing = [step for step in recipe.passes if step.name not in FLOAT_PASSES]
    if any(step.name == QAT for step in added):
        quantizing = [step for step in quantizing if step.name != "calibrate"]
    passes = (*recipe.float_passes, *added, *quantizing)
    return replace(
        basis, recipe=replace(recipe, passes=passes, optimize="", minutes=None, effort=effort or recipe.effort)
    )


def _cost_of(candidate: Candidate) -> tuple[float, float] | None:
    """(before, after) of what the goal counts, by the first pruning's own report."""
    for report in candidate.exported.passes:
        for name in ("cost", "macs"):
            if report.name.startswith("prune") and report.before.get(name):
                return report.before[name], report.after[name]
    return None
