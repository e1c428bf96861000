"""A conversion that looks for a smaller model: facts, strategy, trials on a validation part, and the variants of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgeloop.bench.measurement import Measurement
from edgeloop.errors import DeviceError, EdgeloopError
from edgeloop.graph import Graph
from edgeloop_converters.buckets import Basis
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.costs import COSTS, CostSetting, cost_named
from edgeloop_converters.data import pick_stratified
from edgeloop_converters.export import FLOAT, Exported
from edgeloop_converters.measure import Candidate, Measured, Measuring
from edgeloop_converters.on_device import measured_on_device, with_profiles
from edgeloop_converters.recipe_steps import PassStep
from edgeloop_converters.search import Trial, best, front, how_close
from edgeloop_converters.shared_work import Around
from edgeloop_converters.sources import Sources
from edgeloop_converters.strategy import LITE, Facts, Strategy, decide
from edgeloop_converters.trials import Export, run_trials, validated, with_passes

_VALIDATION_SHARE = 0.2
_MOST_VALIDATION = 2_000
_OPENING_SAMPLES = 200
"""Opening two models takes about as long as evaluating so many samples of a small one."""
_CLOSING_S = 3.0
"""What a conversion does behind its last file, beside evaluating: latency, error per layer, report, bundle."""
_ENOUGH_TO_JUDGE = 200


@dataclass(frozen=True)
class Found:
    """candidates: the first is what the target runs. notes: why, and what each trial came to. told: the same as data,
    for the report. chosen: what the first was exported from. spare: makes what takes the first one's place where that
    misses a goal on the evaluation data, which no choice has looked at; None where there is none."""

    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    told: Mapping[str, Any]
    chosen: Basis
    spare: Callable[[], Found] | None = None


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
    plain = with_passes(basis, strategy.plain)
    began = time.monotonic()
    whole, findings = export(plain)
    deadline = around.deadline
    deadline.reserve_s = time.monotonic() - began + _CLOSING_S
    began = time.monotonic()
    beside = _float_beside(whole, how, note)
    deadline.reserve_s += _evaluating_s(basis.sources, time.monotonic() - began)
    trials: tuple[Trial[Candidate], ...] = ()
    if strategy.shares:
        if doubt := doubt_of(len(basis.sources.validation)):
            note(doubt)
        trials = run_trials(basis, how, export, _countable(strategy, how, around, note), deadline, note)
        if best(trials) is None:
            note(f"strategy: {how_close(trials, deadline.is_over)}")
    rest = (whole, *beside)
    models = {_name_of(t): t.made.exported.model for t in trials if not t.missed and not t.too_large}
    models.update({c.exported.name: c.exported.model for c in rest})
    timed = measured_on_device(models, around, how, note)
    chosen = _fastest(trials, timed, note) if timed else best(trials)
    told = {
        "facts": facts.line(), "reasons": list(strategy.reasons), "trials": [_told(t, trials, timed) for t in trials],
        "chosen": None if chosen is None else _name_of(chosen),
        "measured": {name: m.to_dict() for name, m in timed.items()},
        "unit": COSTS[str(strategy.prune.options["cost"])].unit,
    }  # fmt: skip
    if chosen is None:
        told["recipe"] = recipe_of(plain)
        return Found(with_profiles(rest, timed), findings, tuple(notes), told, plain)

    def finished(trial: Trial[Candidate], why: str) -> Found:
        made_by = with_passes(basis, strategy.steps(trial.share, trial.trained))
        # As it will run: passes over the float model are those of the trial, what quantizing takes is done in full.
        made = export(made_by)[0]
        lite = replace(made, exported=replace(made.exported, name=LITE))
        note(
            f"strategy: {LITE} is the model at {trial.share:.0%} of the cost, {why}; "
            f"{how.target.id} runs it, the whole one is beside it as int8"
        )
        note(f"strategy: as a recipe (--save-recipe FILE): {passes_line(made_by.recipe.passes)}")
        by_name = {**timed, **({LITE: timed[_name_of(trial)]} if timed else {})}
        said = {**told, "chosen": _name_of(trial), "recipe": recipe_of(made_by)}
        return Found(with_profiles((lite, *rest), by_name), findings, tuple(notes), said, made_by)

    found = finished(chosen, f"{_why(timed)} within the budget")
    larger = best([t for t in trials if t.share > chosen.share])
    if larger is None or deadline.is_over:
        return found
    other = larger
    return replace(found, spare=lambda: finished(other, "the next larger one: that one misses on the evaluation data"))


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


def recipe_of(basis: Basis) -> str:
    """TOML of what a variant was exported from: the same samples are kept from learning as during the search."""
    return replace(basis.recipe, validation=True).with_contract(basis.sources.contract).to_toml()


def passes_line(steps: Sequence[PassStep]) -> str:
    """For people: "prune (cost arm, goal 0.7), calibrate (samples 512), quantize (scheme int8)"."""
    told = (", ".join(f"{key} {value}" for key, value in step.options.items()) for step in steps)
    return ", ".join(f"{step.name} ({text})" if text else step.name for step, text in zip(steps, told, strict=True))


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
        "seconds": round(trial.look.seconds, 1), "cost": trial.look.value,
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
    if len(free) < len(sources.learnable) / 2:  # calibration takes most of few samples: then it gives some of them
        free = sources.learnable
    count = min(_MOST_VALIDATION, int(len(free) * _VALIDATION_SHARE))
    chosen = free[pick_stratified(sources.data.calibration.subset(free), count, seed + 1)] if count else free[:0]
    return replace(sources, calibration=np.setdiff1d(calibration, chosen), validation=np.sort(chosen))


def facts_of(basis: Basis, how: Measuring, device: str) -> Facts:
    """Of the float model, the data and this host."""
    from edgeloop.analysis import analyze
    from edgeloop_converters.arm_cost import can_count

    graph = Graph.read(basis.model.tflite)
    analysis = analyze(graph)
    data = basis.sources.data.calibration
    return Facts(
        analysis.macs, analysis.layers, len(basis.sources.learnable), data.labels is not None,
        find_spec("tensorflow") is not None, can_count(how.target, device), analysis.parameters,
        basis.sources.contract.output.kind, device, how.recipe.minutes, _simplified(graph),
    )  # fmt: skip


def _simplified(graph: Graph) -> str:
    """What rewriting the graph would save, for people; "" for nothing. On random inputs: the pass looks at data."""
    from edgeloop_converters.passes import optimize_graph

    try:
        _, report = optimize_graph(graph)
    except EdgeloopError:  # the pass says so where a recipe asks for it
        return ""
    saves = any(report.after[name] < report.before[name] for name in ("ops", "macs"))
    return f"{report.before['ops']:.0f} -> {report.after['ops']:.0f} ops ({report.detail})" if saves else ""


def _evaluating_s(sources: Sources, validating_s: float) -> float:
    """What evaluating two variants takes, each beside the float model, by what one took on the validation samples."""
    each = validating_s / (len(sources.validation) + _OPENING_SAMPLES)
    return 2 * each * len(sources.evaluation)


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
