"""A conversion that looks for a smaller model: facts, strategy, trials on a validation part, and the variants of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from edgeloop.bundle import Metrics
from edgeloop.errors import GoalNotMetError, UsageError
from edgeloop.graph import Graph
from edgeloop.targets import Target
from edgeloop_converters.buckets import Basis
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.data import pick_stratified
from edgeloop_converters.evaluate import run_models, summarize
from edgeloop_converters.export import FLOAT
from edgeloop_converters.measure import Candidate, Measured, Measuring
from edgeloop_converters.recipe_steps import FLOAT_PASSES, QAT, PassStep
from edgeloop_converters.search import Trial, best, how_close, run_trials
from edgeloop_converters.sources import Sources
from edgeloop_converters.strategy import LITE, Facts, Strategy, decide

_VALIDATION_SHARE = 0.2
_MOST_VALIDATION = 2_000
_ENOUGH_TO_JUDGE = 200

Export = Callable[[Basis], tuple[Candidate, tuple[Finding, ...]]]


@dataclass(frozen=True)
class Found:
    """candidates: the first is what the target runs. notes: why, and what each trial came to."""

    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def optimize(basis: Basis, how: Measuring, export: Export) -> Found:
    """Export the model as it is, and the smallest one within the budget. Every decision is noted as it is taken.

    Trials are judged on samples that nothing was learnt from and that are not evaluated. Raises as `export`.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        how.progress.note(text)

    basis = replace(basis, sources=with_validation(basis.sources, how.recipe.seed))
    strategy = decide(how.recipe.optimize, facts_of(basis, how.target), how.target, how.recipe.goals, how.recipe.effort)
    for reason in strategy.reasons:
        note(f"strategy: {reason}")
    candidate, findings = export(_with_passes(basis, strategy.plain))
    if not strategy.shares:
        return Found((candidate,), findings, tuple(notes))
    if doubt := doubt_of(len(basis.sources.validation)):
        note(doubt)
    trials = _trials(basis, how, export, strategy, note)
    chosen = best(trials)
    if chosen is None:
        note(f"strategy: {how_close(trials)}")
        return Found((candidate,), findings, tuple(notes))
    lite = replace(chosen.made, exported=replace(chosen.made.exported, name=LITE))
    note(
        f"strategy: {LITE} is the model at {chosen.share:.0%} of the cost, the smallest within the budget; "
        f"{how.target.id} runs it, the whole one is beside it as int8"
    )
    return Found((lite, candidate), findings, tuple(notes))


def settled(measured: Sequence[Measured]) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """Without the smaller one where the evaluation data, which no choice looked at, say that it misses a goal; and a
    note of that."""
    first, rest = measured[0], measured[1:]
    if first.candidate.exported.name != LITE or first.gate.passed or not rest:
        return tuple(measured), ()
    return tuple(rest), (f"strategy: {LITE} is left out: {first.gate.reasons[0]}",)


def doubt_of(samples: int) -> str:
    """What to say where trials are judged on few samples, "" where on enough."""
    if samples >= _ENOUGH_TO_JUDGE:
        return ""
    one = f", each of which is {100 / samples:.1f} pt" if samples else ""
    return f"strategy: trials are judged on {samples} samples only{one}: give more --data for a verdict to trust"


def with_validation(sources: Sources, seed: int) -> Sources:
    """A fifth of the samples that passes may look at, of every class, is kept to choose by."""
    calibration = sources.calibration
    # Samples to calibrate on stay where there are others: a draw by the same seed would take just those.
    free = sources.learnable if sources.data.is_one else np.setdiff1d(sources.learnable, calibration)
    count = min(_MOST_VALIDATION, int(len(free) * _VALIDATION_SHARE))
    chosen = free[pick_stratified(sources.data.calibration.subset(free), count, seed + 1)] if count else free[:0]
    return replace(sources, calibration=np.setdiff1d(calibration, chosen), validation=np.sort(chosen))


def facts_of(basis: Basis, target: Target) -> Facts:
    """Of the float model, the data and this host."""
    from edgeloop.analysis import analyze

    analysis = analyze(Graph.read(basis.model.tflite))
    data = basis.sources.data.calibration
    return Facts(
        analysis.macs, analysis.layers, len(basis.sources.learnable), data.labels is not None,
        find_spec("tensorflow") is not None, _counts_arm(target),
    )  # fmt: skip


def _counts_arm(target: Target) -> bool:
    from edgeloop_converters.arm_cost import core_of

    try:
        core_of(target)
    except UsageError:
        return False
    return all(shutil.which(tool) for tool in ("qemu-aarch64", "cc", "apt-get", "dpkg-deb"))


def _trials(
    basis: Basis, how: Measuring, export: Export, strategy: Strategy, note: Callable[[str], None]
) -> tuple[Trial[Candidate], ...]:
    def make(share: float) -> Candidate | None:
        try:
            return export(_with_passes(basis, strategy.steps(share)))[0]
        except GoalNotMetError as error:
            note(f"trial at {share:.0%} of the cost: {error.message}")
            return None

    with how.progress.step("trials", total=len(strategy.shares)) as advance:

        def look(candidate: Candidate) -> tuple[Metrics, int]:
            advance(1)
            return validated(candidate, how), len(candidate.exported.model)

        return run_trials(strategy.shares, strategy.budget, make, look, note)


def validated(candidate: Candidate, how: Measuring) -> Metrics:
    """The exported file against its float model on the validation samples."""
    sources, name = candidate.sources, candidate.exported.name
    with how.stages("trials judged"):
        evaluation = run_models(
            {FLOAT: candidate.model.tflite, name: candidate.exported.model}, sources.contract,
            sources.data.calibration, sources.validation, reference=FLOAT, threads=how.threads or 1,
            progress=how.progress, label="validating",
        )  # fmt: skip
    return summarize(evaluation, name, reference=FLOAT, scorer=None).metrics


def _with_passes(basis: Basis, added: Sequence[PassStep]) -> Basis:
    """The recipe with these passes behind its own over the float model. Training for int8 does without calibration."""
    recipe = basis.recipe
    quantizing = [step for step in recipe.passes if step.name not in FLOAT_PASSES]
    if any(step.name == QAT for step in added):
        quantizing = [step for step in quantizing if step.name != "calibrate"]
    return replace(basis, recipe=replace(recipe, passes=(*recipe.float_passes, *added, *quantizing), optimize=""))
