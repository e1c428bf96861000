"""Measure one exported file: quality on the evaluation data, error per layer, latency on this host, and the verdict."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property

from edgeloop.bundle import Profile
from edgeloop.errors import DataError
from edgeloop.padding import Shape
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.evaluate import (
    Comparison,
    Evaluation,
    OpError,
    Quality,
    Scorer,
    TensorRange,
    compare_tensors,
    run_models,
    summarize,
)
from edgeloop_converters.evaluate.per_op import SAMPLES as PER_OP_SAMPLES
from edgeloop_converters.export import FLOAT, Exported
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.gate import Gate, Measurement, judge, missed_quality
from edgeloop_converters.profile import HostLatency, host_latency, is_like_host
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.result import VariantResult
from edgeloop_converters.sources import Sources
from edgeloop_converters.stages import Stages


@dataclass(frozen=True)
class Candidate:
    """An exported file, the float model that it came from and is compared with, and the samples for both.

    Schemes of one model differ in the file only; shape buckets differ in all three. input_shapes: as in `Variant`.
    profile: latency that a device measured; None: this host's.
    """

    exported: Exported
    model: FloatModel
    sources: Sources

    @property
    def twin(self) -> bytes:
        """The float model whose inner tensors are those of the exported file: equalization scales them."""
        return self.exported.float_model or self.model.tflite

    input_shapes: tuple[Shape, ...] = ()
    profile: Profile | None = None
    is_step: bool = False
    """A device steps down to it under load: no goal on its answers, which is what such a step gives up."""


@dataclass(frozen=True)
class Measuring:
    """What all candidates of a conversion are measured with. scorer: None for data without labels."""

    recipe: Recipe
    target: Target
    stages: Stages
    progress: Progress
    threads: int | None
    scorer: Scorer | None


@dataclass(frozen=True)
class Measured:
    """A candidate and what was measured of it."""

    candidate: Candidate
    quality: Quality
    comparison: Comparison
    latency: HostLatency
    gate: Gate

    @property
    def per_op(self) -> tuple[OpError, ...]:
        return self.comparison.errors

    @property
    def ranges(self) -> tuple[TensorRange, ...]:
        return self.comparison.ranges

    @property
    def profile(self) -> Profile:
        return self.latency.profile

    @cached_property
    def variant(self) -> VariantResult:
        """One value: what it finds out of the file (compressed size, ops in float) is found once."""
        exported = self.candidate.exported
        return VariantResult(
            exported.name, exported.model, exported.scheme, self.quality, self.profile, self.gate, exported.repairs,
            self.candidate.input_shapes, self.candidate.is_step,
        )  # fmt: skip


def measure(candidate: Candidate, how: Measuring) -> Measured:
    """Evaluate, repair what misses its goals, compare layer by layer, profile, judge. Raises as `run_models` does."""
    if candidate.is_step:
        kept = replace(how.recipe.goals, max_drop=None, min_agreement=None)
        how = replace(how, recipe=replace(how.recipe, goals=kept))
    with how.stages("evaluate"):
        evaluation = _run_both(candidate, how)
    # Before the scores: the process that computes them is still importing what it needs.
    comparison, latency = _look_inside(candidate, how)
    with how.stages("score"):
        quality = _quality(evaluation, candidate, how)
    if how.recipe.repair and how.recipe.goals.wants_quality:
        shipped, quality = _repaired(candidate, quality, how)
        if shipped.exported.model != candidate.exported.model:
            comparison, latency = _look_inside(shipped, how)
        candidate = shipped
    gate = judge_quality(candidate, quality, latency.profile, how)
    if not gate.passed and candidate.exported.blame:
        gate = replace(gate, reasons=(*gate.reasons, f"after the repairs: {candidate.exported.blame}"))
    return Measured(candidate, quality, comparison, latency, gate)


def _repaired(candidate: Candidate, quality: Quality, how: Measuring) -> tuple[Candidate, Quality]:
    """The candidate after the repair ladder, where it missed a goal on quality, and its quality."""
    missed = missed_quality(how.recipe.goals, quality.metrics)
    if not missed:
        return candidate, quality
    from edgeloop_converters.repair.apply import repair_exported

    exported, sources = candidate.exported, candidate.sources
    how.progress.note(f"repairing: {missed[0]}")
    with how.stages("repair"):
        repaired = repair_exported(exported, candidate.twin, sources, how.recipe, how.target, missed, how.progress)
    for note in repaired.notes[len(exported.notes) :]:
        how.progress.note(note)
    candidate = replace(candidate, exported=repaired)
    if repaired.model == exported.model:
        return candidate, quality
    with how.stages("evaluate"):
        return candidate, _quality(_run_both(candidate, how), candidate, how)


def _look_inside(candidate: Candidate, how: Measuring) -> tuple[Comparison, HostLatency]:
    with how.stages("error per layer"):
        comparison = _compare(candidate, how)
    with how.stages("profile"):
        is_fast = how.recipe.effort == "fast"
        beside = None if is_fast else candidate.model.tflite
        here = host_latency(candidate.exported.model, how.target, float_model=beside, fast=is_fast)
    # What was measured there and here has no common axis.
    there = candidate.profile
    return comparison, here if there is None else replace(here, profile=there, histogram=(), float_histogram=())


def _run_both(candidate: Candidate, how: Measuring) -> Evaluation:
    """The exported file against labels, where there are any, and against its float model.

    Raises DataError where the float model answers NaN or infinity.
    """
    name, sources = candidate.exported.name, candidate.sources
    evaluation = run_models(
        {FLOAT: candidate.model.tflite, name: candidate.exported.model},
        sources.contract,
        sources.data.evaluation,
        sources.evaluation,
        reference=FLOAT,
        threads=how.threads or min(4, os.cpu_count() or 1),
        progress=how.progress,
        label="evaluating",
    )
    if bad := evaluation.outcomes[FLOAT].not_finite:
        raise DataError(
            f"the float model answers NaN or infinity on {bad} of {len(evaluation.indices)} samples",
            hint="check the model's weights, and the contract's mean and std",
        )
    return evaluation


def _quality(evaluation: Evaluation, candidate: Candidate, how: Measuring) -> Quality:
    return summarize(evaluation, candidate.exported.name, reference=FLOAT, scorer=how.scorer)


def judge_quality(candidate: Candidate, quality: Quality, profile: Profile | None, how: Measuring) -> Gate:
    """The goals; a latency counts only where a device measured it, or this host stands for the target."""
    metrics = quality.metrics
    counts = candidate.profile is not None or is_like_host(how.target)
    p95_ms = profile.p95_ms if profile is not None and counts else None
    return judge(
        how.recipe.goals,
        Measurement(
            metrics.metric, metrics.float_, metrics.this, metrics.agreement, metrics.n, len(candidate.exported.model),
            p95_ms, bool(quality.guessing),
        ),
    )  # fmt: skip


def _compare(candidate: Candidate, how: Measuring) -> Comparison:
    if candidate.exported.scheme == FLOAT:
        return Comparison()
    sources = candidate.sources
    return compare_tensors(
        candidate.twin,
        candidate.exported.model,
        sources.contract,
        sources.data.evaluation,
        sources.evaluation[:: max(1, len(sources.evaluation) // PER_OP_SAMPLES)][:PER_OP_SAMPLES],
        progress=how.progress,
    )
