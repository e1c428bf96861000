"""A conversion that looks for a smaller model: facts, strategy, trials on a validation part, and the variants of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgeloop.bench.measurement import Measurement
from edgeloop.bundle import Metrics
from edgeloop.errors import DeviceError, GoalNotMetError, UsageError
from edgeloop.graph import Graph
from edgeloop_converters.buckets import Basis
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.costs import CostSetting, cost_named
from edgeloop_converters.data import pick_stratified
from edgeloop_converters.evaluate import run_models, summarize
from edgeloop_converters.export import FLOAT, Exported
from edgeloop_converters.measure import Candidate, Measured, Measuring
from edgeloop_converters.on_device import measured_on_device, with_profiles
from edgeloop_converters.recipe_steps import FLOAT_PASSES, QAT, PassStep
from edgeloop_converters.search import Look, Search, Trial, best, front, how_close
from edgeloop_converters.shared_work import Around
from edgeloop_converters.sources import Sources
from edgeloop_converters.strategy import LITE, Facts, Strategy, decide

_VALIDATION_SHARE = 0.2
_MOST_VALIDATION = 2_000
_ENOUGH_TO_JUDGE = 200

Export = Callable[[Basis], tuple[Candidate, tuple[Finding, ...]]]


@dataclass(frozen=True)
class Found:
    """candidates: the first is what the target runs. notes: why, and what each trial came to. told: the same as data,
    for the report. chosen: what the first was exported from."""

    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    told: Mapping[str, Any]
    chosen: Basis


def optimize(basis: Basis, how: Measuring, export: Export, around: Around) -> Found:
    """Export the model as it is, and the smallest one within the budget. Every decision is noted as it is taken.

    Trials are judged on samples that nothing was learnt from and that are not evaluated. Raises as `export`.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        how.progress.note(text)

    basis = replace(basis, sources=with_validation(basis.sources, how.recipe.seed))
    facts = facts_of(basis, how, around.device)
    strategy = decide(how.recipe.optimize, facts, how.target, how.recipe.goals, how.recipe.effort)
    for reason in strategy.reasons:
        note(f"strategy: {reason}")
    plain = _with_passes(basis, strategy.plain)
    whole, findings = export(plain)
    trials: tuple[Trial[Candidate], ...] = ()
    if strategy.shares:
        if doubt := doubt_of(len(basis.sources.validation)):
            note(doubt)
        trials = _trials(basis, how, export, _countable(strategy, how, around, note), note)
        if best(trials) is None:
            note(f"strategy: {how_close(trials)}")
    rest = (whole, *_float_beside(whole, how, note))
    models = {_name_of(t): t.made.exported.model for t in trials if not t.missed and not t.too_large}
    models.update({c.exported.name: c.exported.model for c in rest})
    timed = measured_on_device(models, around, how, note)
    chosen = _fastest(trials, timed, note) if timed else best(trials)
    told = {
        "facts": facts.line(), "reasons": list(strategy.reasons), "trials": [_told(t, trials, timed) for t in trials],
        "chosen": None if chosen is None else _name_of(chosen),
        "measured": {name: m.to_dict() for name, m in timed.items()},
    }  # fmt: skip
    if chosen is None:
        return Found(with_profiles(rest, timed), findings, tuple(notes), told, plain)
    lite = replace(chosen.made, exported=replace(chosen.made.exported, name=LITE))
    note(
        f"strategy: {LITE} is the model at {chosen.share:.0%} of the cost, {_why(timed)} within the budget; "
        f"{how.target.id} runs it, the whole one is beside it as int8"
    )
    made_by = _with_passes(basis, strategy.steps(chosen.share, chosen.trained))
    if timed:
        timed[LITE] = timed[_name_of(chosen)]
    return Found(with_profiles((lite, *rest), timed), findings, tuple(notes), told, made_by)


def settled(measured: Sequence[Measured]) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """Without the variants that miss a goal where another one meets all: the evaluation data, which no choice looked
    at, say so of the answers. And a note of each."""
    passed = [m for m in measured if m.gate.passed]
    if not passed:
        whole = [m for m in measured if m.candidate.exported.name != LITE and m.candidate.exported.scheme != FLOAT]
        passed = whole or list(measured)
    said = tuple(
        f"strategy: {m.candidate.exported.name} is left out: {m.gate.reasons[0]}"
        for m in measured
        if m not in passed and m.gate.reasons
    )
    return tuple(passed), said


def _float_beside(whole: Candidate, how: Measuring, note: Callable[[str], None]) -> tuple[Candidate, ...]:
    """The float model as a variant, where it answers better than int8: then neither makes the other needless."""
    if how.target.has_edgetpu or not len(whole.sources.validation) or whole.exported.scheme == FLOAT:
        return ()
    metrics = validated(whole, how)
    better, unit = (1 - metrics.agreement if metrics.agreement is not None else 0.0), "agreement"
    if metrics.float_ is not None and metrics.this is not None:
        better, unit = metrics.float_ - metrics.this, metrics.metric
    times = len(whole.model.tflite) / len(whole.exported.model)
    if better <= 0:
        note(f"strategy: float is no variant: {times:.1f} times int8's bytes, and no better on the validation samples")
        return ()
    note(
        f"strategy: float is a variant, too: {better * 100:.2f} pt {unit} better than int8 on {metrics.n} validation "
        f"samples, {times:.1f} times its bytes"
    )
    return (replace(whole, exported=Exported(FLOAT, whole.model.tflite, FLOAT)),)


def _fastest(
    trials: Sequence[Trial[Candidate]], timed: Mapping[str, Measurement], note: Callable[[str], None]
) -> Trial[Candidate] | None:
    """Of those within the budget, the one that costs least on the device; of equals the better one."""
    chosen = best(trials)
    if chosen is None:
        return None
    holding = [t for t in trials if _name_of(t) in timed]
    found = min(holding, key=lambda t: (timed[_name_of(t)].value, -t.quality))
    if found is not chosen:
        note(f"strategy: on the device the trial at {found.share:.0%} takes less than the one at {chosen.share:.0%}")
    return found


def _name_of(trial: Trial[Candidate]) -> str:
    return f"trial-{trial.share * 100:g}{'-trained' if trial.trained else ''}"


def _why(timed: Mapping[str, Measurement]) -> str:
    return "the one that costs least on the device" if timed else "the smallest"


def _told(
    trial: Trial[Candidate], trials: Sequence[Trial[Candidate]], timed: Mapping[str, Measurement]
) -> dict[str, Any]:
    measured = timed.get(_name_of(trial))
    return {
        "name": _name_of(trial), "share": trial.share, "reached": trial.look.cost, "trained": trial.trained,
        "bytes": trial.bytes, "metric": trial.metrics.metric, "value": trial.metrics.this,
        "float": trial.metrics.float_, "agreement": trial.metrics.agreement, "samples": trial.metrics.n,
        "missed": [*trial.missed, *filter(None, [trial.too_large])], "on_front": trial in front(trials),
        "measured": None if measured is None else measured.to_dict(),
    }  # fmt: skip


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


def facts_of(basis: Basis, how: Measuring, device: str) -> Facts:
    """Of the float model, the data and this host."""
    from edgeloop.analysis import analyze
    from edgeloop_converters.arm_cost import can_count

    analysis = analyze(Graph.read(basis.model.tflite))
    data = basis.sources.data.calibration
    return Facts(
        analysis.macs, analysis.layers, len(basis.sources.learnable), data.labels is not None,
        find_spec("tensorflow") is not None, can_count(how.target, device), analysis.parameters,
        basis.sources.contract.output.kind, device, how.recipe.minutes,
    )  # fmt: skip


def _countable(strategy: Strategy, how: Measuring, around: Around, note: Callable[[str], None]) -> Strategy:
    """By multiply-accumulates where the emulated system cannot be set up, say, without a network."""
    if strategy.prune.options["cost"] != "arm":
        return strategy
    try:
        cost_named("arm", CostSetting(how.target, around, how.progress))
    except DeviceError as error:
        note(f"strategy: cost: multiply-accumulates, because instructions cannot be counted here: {error.message}")
        return replace(strategy, prune=replace(strategy.prune, options={**strategy.prune.options, "cost": "macs"}))
    return strategy


def _trials(
    basis: Basis, how: Measuring, export: Export, strategy: Strategy, note: Callable[[str], None]
) -> tuple[Trial[Candidate], ...]:
    def make(share: float, trained: bool) -> Candidate | None:
        try:
            return export(_with_passes(basis, strategy.steps(share, trained)))[0]
        except (GoalNotMetError, UsageError) as error:  # the whole model has been exported: nothing is lost
            note(f"trial at {share:.0%} of the cost: {error.message}")
            return None

    minutes = how.recipe.minutes
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    with how.progress.step("trials", total=len(strategy.shares)) as advance:

        def look(candidate: Candidate) -> Look:
            advance(1)
            return Look(validated(candidate, how), len(candidate.exported.model), _reached(candidate))

        search = Search(strategy.budget, make, look, note, lambda: until - time.monotonic())
        return search.run(strategy.shares, trains=strategy.trains)


def _reached(candidate: Candidate) -> float | None:
    """The share of the cost that is left, by the pruning's own report."""
    for report in candidate.exported.passes:
        for name in ("cost", "macs"):
            if report.name == "prune" and report.before.get(name):
                return report.after[name] / report.before[name]
    return None


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
