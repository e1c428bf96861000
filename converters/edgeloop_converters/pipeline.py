"""From a trained model to a bundle: load, calibrate, quantize, evaluate the exported file, judge it, pack it.

Native converters run in a child process from the first moment; data are read meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeloop.progress import Progress, SilentProgress
from edgeloop.targets import load_target
from edgeloop_converters.ablation import ablate
from edgeloop_converters.assemble import Assembly, alarms
from edgeloop_converters.buckets import Basis, settle_buckets
from edgeloop_converters.check_data.finding import Finding, by_severity
from edgeloop_converters.check_data.run import (
    FEW_SAMPLES,
    QUICK_SAMPLES,
    after_calibration,
    findings_before,
    refuse_severe,
)
from edgeloop_converters.check_data.stability import RangeRows
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.data.unreadable import all_unreadable_named
from edgeloop_converters.deadline import Deadline
from edgeloop_converters.evaluate import Scorer
from edgeloop_converters.export import export
from edgeloop_converters.frontends import FRONTENDS, start_conversion
from edgeloop_converters.gate import check_goals_fit
from edgeloop_converters.headstart import HeadStart
from edgeloop_converters.kept_passes import KeptPasses
from edgeloop_converters.measure import Candidate, Measuring, measure
from edgeloop_converters.on_device import measured_on_device, with_profiles
from edgeloop_converters.optimizing import optimize, settled, with_validation
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.result import ConvertResult
from edgeloop_converters.schemes import check_target, cost_notes, scheme_named
from edgeloop_converters.shared_work import Around, SharedWork
from edgeloop_converters.sources import (
    Datasets,
    choose_samples,
    conversion_options,
    open_datasets,
    read_ahead,
    settle,
)
from edgeloop_converters.stages import Stages

_LATER = (
    "ai_edge_litert.interpreter",
    "ai_edge_litert.schema_py_generated",
    "scipy.linalg",
    "edgeloop_converters.passes.refine",
    "edgeloop_converters.passes.flips",
    "edgeloop.bundle.golden_maker",
)


def convert(
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    trust_code: bool = False,
    threads: int | None = None,
    command: str = "",
    strict_data: bool = False,
    cache: bool = True,
    ahead: HeadStart | None = None,
    device: str = "",
    tensorboard: Path | None = None,
    ablation: bool = False,
    identity: Path | None = None,
) -> ConvertResult:
    """Run a recipe. Nothing is written but the float model, decoded pictures and, until its end, finished passes into
    this host's cache (unless `cache` is False); `result.bundle.save()` writes.

    threads: for evaluation, default one per core up to 4. command: what the user typed, for the report. ahead:
    processes begun before this module was imported, the caller's to close. device: URL of one that candidates are
    measured on; identity: SSH private key for it. tensorboard: folder for the figures of trainings. ablation: make the
    model without each of its passes, too. A goal that is missed is in `result.gate`, not an error. Raises UsageError
    and its kinds (wrong use, data, contract), RefusedError (corrupt or unsafe model), DeviceError of the device;
    with `strict_data` GoalNotMetError for a severe finding on the data, before any pass.
    """
    target, scheme = load_target(recipe.target), scheme_named(recipe.scheme)
    check_target(scheme, target, recipe.io)
    reporter = progress or SilentProgress()
    for note in cost_notes(scheme, target):
        reporter.note(note)
    with ExitStack() as stack:
        if ahead is None:
            packs = scheme.load is not None and recipe.engine == "aeq"
            ahead = stack.enter_context(HeadStart(recipe.source, trust_code=trust_code, packs=packs))
        data = open_datasets(recipe)
        check_goals_fit(
            recipe.goals,
            has_labels=data.evaluation.labels is not None,
            why_not="--ignore-labels leaves them out" if recipe.ignore_labels else "",
        )
        scorer = Scorer(ahead.assistant) if data.evaluation.labels is not None else None
        decoded = stack.enter_context(DecodedCache()) if cache else None
        how = Measuring(recipe, target, Stages(), reporter, threads, scorer)
        deadline = Deadline(recipe.minutes if recipe.optimize else None)
        kept = KeptPasses() if cache else None
        around = Around(stack.enter_context(SharedWork()), device, tensorboard, identity, deadline, kept)
        run = _Run(how, trust_code, ahead, decoded, around)
        loaded = run.load(data, stack)
        if recipe.goals.max_drop is not None and loaded.output_kind != "classification":
            check_goals_fit(recipe.goals, has_labels=False, why_not=f"the output is {loaded.output_kind!r}")
        findings = run.question_data(loaded)
        if strict_data:
            refuse_severe(findings)
        candidates: list[Candidate] = []
        said: list[str] = []
        told: dict[str, Any] = {}
        if recipe.optimize:
            found = optimize(loaded.whole, how, run.export, around)
            candidates, findings = list(found.candidates), findings + found.findings
            said += found.notes
            told, made_by = dict(found.told), found.chosen
        elif recipe.has_steps:
            from edgeloop_converters.dynamic.variants import make_variants

            made = make_variants(loaded.whole, how, run.export)
            candidates, findings = list(made.candidates), findings + made.findings
            said += made.notes
            made_by = made.made_by
        else:
            bases = loaded.bases
            if (ablation or recipe.validation) and len(bases) == 1:
                bases = (replace(bases[0], sources=with_validation(bases[0].sources, recipe.seed)),)
            made_by = bases[0]
            for basis in bases:
                candidate, more = run.export(basis)
                candidates.append(candidate)
                findings += more
            models = {c.exported.name: c.exported.model for c in candidates}
            candidates = list(with_profiles(candidates, measured_on_device(models, around, how, reporter.note)))
        for note in alarms(findings, loaded.whole.sources):
            reporter.note(note)
        measured = tuple(measure(candidate, how) for candidate in candidates)
        if recipe.optimize:
            if found.spare is not None and not measured[0].gate.passed:
                found = found.spare()
                spare = measure(found.candidates[0], how)
                if spare.gate.passed:
                    candidates, measured = list(found.candidates), (spare, *measured[1:])
                    said, told, made_by = [*found.notes], dict(found.told), found.chosen
            measured, left_out = settled(measured)
            for text in left_out:
                reporter.note(text)
            said += left_out
        contributed = ablate(made_by, candidates[0], how, around, run.export if ablation else None)
        for line in () if contributed is None else contributed.lines():
            reporter.note(line)
            said.append(line)
        trade = None
        if recipe.has_steps:
            from edgeloop_converters.dynamic.running_cost import counter_for
            from edgeloop_converters.dynamic.trade import measure_trade

            trade = measure_trade(measured, how, counter_for(target, around, reporter))
        if kept is not None:
            kept.clear()
        return Assembly(
            measured, how, command, by_severity(findings), decoded, tuple(said), told, contributed, trade
        ).result()


@dataclass(frozen=True)
class _Loaded:
    """The float model (one per shape bucket), its contract and samples. whole: what stands for all; data: as opened."""

    whole: Basis
    bases: tuple[Basis, ...]
    data: Datasets

    @property
    def output_kind(self) -> str:
        return self.whole.sources.contract.output.kind


@dataclass(frozen=True)
class _Run:
    """The steps before measuring, over what all of them share."""

    how: Measuring
    trust_code: bool
    ahead: HeadStart
    decoded: DecodedCache | None
    around: Around

    def load(self, data: Datasets, stack: ExitStack) -> _Loaded:
        """Start the converter, read data meanwhile, settle the contract. stack: looks after what stays open."""
        recipe, stages, reporter = self.how.recipe, self.how.stages, self.how.progress
        calibration, evaluation = choose_samples(recipe, data)
        options = conversion_options(recipe, data, recipe.shapes, trust_code=self.trust_code)
        conversion = start_conversion(Path(recipe.source), options, child=self.ahead.native())
        parts = [(data.calibration, calibration), (data.evaluation, evaluation)]
        stack.enter_context(all_unreadable_named(parts, reporter))
        stack.enter_context(conversion)
        is_native = FRONTENDS[conversion.frontend].native
        with stages("read data"):
            data = read_ahead(data, calibration, evaluation, reporter, all_of_it=is_native, cache=self.decoded)
            if is_native:
                _import_ahead()
        with stages("load model"):
            models = conversion.results(reporter)
        with stages("contract"):
            if len(models) == 1:
                sources = settle(recipe, models[0].tflite, data, calibration, evaluation, self.decoded)
                whole = Basis(recipe, models[0], sources)
                loaded = _Loaded(whole, (whole,), data)
            else:
                whole, bases = settle_buckets(recipe, models, data, calibration, evaluation, self.decoded)
                loaded = _Loaded(whole, bases, whole.sources.data)
        said = [text for basis in loaded.bases for text in (*basis.model.notes, *basis.sources.notes)]
        for note in dict.fromkeys((*whole.model.warnings, *whole.sources.warnings, *said)):
            reporter.note(note)
        return loaded

    def question_data(self, loaded: _Loaded) -> tuple[Finding, ...]:
        recipe = self.how.recipe
        # Detection has just compared scalings on the labelled samples; a contract of the user's is always questioned.
        detected = recipe.contract is None and not recipe.contract_file and recipe.hints == ContractFlags()
        findings, _ = findings_before(
            recipe,
            loaded.whole.model.tflite,
            loaded.data,
            loaded.whole.sources,
            samples=QUICK_SAMPLES if self.decoded is not None and recipe.effort != "fast" else FEW_SAMPLES,
            progress=self.how.progress,
            stages=self.how.stages,
            try_contracts=recipe.effort != "fast" or not detected,
        )
        return tuple(findings)

    def export(self, basis: Basis) -> tuple[Candidate, tuple[Finding, ...]]:
        """The file as it will run, and what calibration showed of the data."""
        how, rows = self.how, RangeRows()
        exported = export(
            basis.recipe, how.target, basis.model, basis.sources, self.trust_code, how.stages, how.progress, rows,
            self.ahead.assistant, self.around,
        )  # fmt: skip
        if basis.label:
            name = f"{exported.name}-{basis.label}"
            exported = replace(exported, name=name, notes=tuple(f"{name}: {note}" for note in exported.notes))
        for note in exported.notes:
            how.progress.note(note)
        findings = after_calibration(rows, "grouped", basis.sources, seed=how.recipe.seed)
        return Candidate(exported, basis.model, basis.sources, basis.input_shapes), tuple(findings)


def _import_ahead() -> None:
    """What later steps need, half a second of imports, while a native converter works in its own process."""
    for name in _LATER:
        with suppress(ImportError):  # said where it is needed
            import_module(name)
