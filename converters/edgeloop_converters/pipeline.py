"""From a trained model to a bundle: load, calibrate, quantize, evaluate the exported file, judge it, pack it.

Native converters run in a child process from the first moment; data are read meanwhile.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeloop.bundle import BundleDraft, Golden, Profile, VariantDraft
from edgeloop.progress import Progress, SilentProgress
from edgeloop.targets import Target, load_target
from edgeloop.version import VERSION
from edgeloop_converters.check_data import NOTE, Finding
from edgeloop_converters.check_data.finding import by_severity
from edgeloop_converters.check_data.run import (
    FEW_SAMPLES,
    QUICK_SAMPLES,
    after_calibration,
    findings_before,
    refuse_severe,
)
from edgeloop_converters.check_data.stability import RangeRows
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data import pick
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.data.unreadable import all_unreadable_named
from edgeloop_converters.evaluate import (
    OpError,
    Quality,
    Scorer,
    per_op_errors,
    run_models,
    summarize,
)
from edgeloop_converters.evaluate.per_op import SAMPLES as PER_OP_SAMPLES
from edgeloop_converters.evaluate.summary import GUESSING
from edgeloop_converters.export import FLOAT, Exported, export
from edgeloop_converters.float_cache import keep_float_model
from edgeloop_converters.frontends import FRONTENDS, FloatModel, start_conversion
from edgeloop_converters.gate import Gate, Measurement, check_goals_fit, judge
from edgeloop_converters.profile import host_profile, is_like_host
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.result import ConvertResult, PendingBundle, VariantResult
from edgeloop_converters.schemes import check_target, cost_notes, scheme_named
from edgeloop_converters.sources import (
    Datasets,
    Sources,
    choose_samples,
    open_datasets,
    read_ahead,
    sample_shape,
    settle,
)
from edgeloop_converters.stages import Stages
from edgeloop_converters.versions import package_versions


def convert(
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    trust_code: bool = False,
    threads: int | None = None,
    command: str = "",
    strict_data: bool = False,
    cache: bool = True,
) -> ConvertResult:
    """Run a recipe. Nothing is written but the float model and decoded pictures (unless `cache` is False) into this
    host's cache; `result.bundle.save()` writes.

    threads: for evaluation, default one per core up to 4. command: what the user typed, for the report. A goal that is
    missed is in `result.gate`, not an error. Raises UsageError and its kinds (wrong use, data, contract), RefusedError
    (corrupt or unsafe model); with `strict_data` GoalNotMetError for a severe finding on the data, before any pass.
    """
    stages = Stages()
    reporter = progress or SilentProgress()
    target = load_target(recipe.target)
    scheme = scheme_named(recipe.scheme)
    check_target(scheme, target, recipe.io)
    for note in cost_notes(scheme, target):
        reporter.note(note)
    data = open_datasets(recipe)
    check_goals_fit(
        recipe.goals,
        has_labels=data.evaluation.labels is not None,
        why_not="--ignore-labels leaves them out" if recipe.ignore_labels else "",
    )
    calibration, evaluation = choose_samples(recipe, data)
    conversion = start_conversion(
        Path(recipe.source),
        trust_code=trust_code,
        signature=recipe.signature or None,
        shape=recipe.shape or None,
        sample_shape=sample_shape(recipe, data),
    )
    parts = [(data.calibration, calibration), (data.evaluation, evaluation)]
    with ExitStack() as stack:
        stack.enter_context(all_unreadable_named(parts, reporter))
        scorer = stack.enter_context(Scorer()) if data.evaluation.labels is not None else None
        stack.enter_context(conversion)
        decoded = stack.enter_context(DecodedCache()) if cache else None
        with stages("read data"):
            is_native = FRONTENDS[conversion.frontend].native
            data = read_ahead(data, calibration, evaluation, reporter, all_of_it=is_native, cache=decoded)
        with stages("load model"):
            model = conversion.result(reporter)
        with stages("contract"):
            sources = settle(recipe, model.tflite, data, calibration, evaluation, decoded)
        for note in (*sources.warnings, *model.notes, *sources.notes):
            reporter.note(note)
        if recipe.goals.max_drop is not None and sources.contract.output.kind != "classification":
            check_goals_fit(recipe.goals, has_labels=False, why_not=f"the output is {sources.contract.output.kind!r}")
        looks = QUICK_SAMPLES if cache and recipe.effort != "fast" else FEW_SAMPLES
        # Detection has just compared scalings on the labelled samples; a contract of the user's is always questioned.
        detected = recipe.contract is None and not recipe.contract_file and recipe.hints == ContractFlags()
        findings, _ = findings_before(
            recipe, model.tflite, data, sources, samples=looks, progress=reporter, stages=stages,
            try_contracts=recipe.effort != "fast" or not detected,
        )  # fmt: skip
        if strict_data:
            refuse_severe(findings)
        rows = RangeRows()
        exported = export(recipe, target, model, sources, trust_code, stages, reporter, rows)
        findings += after_calibration(rows, "grouped", sources, seed=recipe.seed)
        for note in (*exported.notes, *_alarms(findings, sources)):
            reporter.note(note)
        return _Measured(
            recipe, target, model, sources, exported, stages, reporter, threads, command, scorer,
            by_severity(findings), decoded,
        ).result()  # fmt: skip


@dataclass
class _Measured:
    """The second half: evaluate what was exported, judge it, and draft the bundle."""

    recipe: Recipe
    target: Target
    model: FloatModel
    sources: Sources
    exported: Exported
    stages: Stages
    progress: Progress
    threads: int | None
    command: str
    scorer: Scorer | None
    findings: tuple[Finding, ...] = ()
    cache: DecodedCache | None = None

    def result(self) -> ConvertResult:
        with self.stages("evaluate"):
            quality = self._evaluate()
        with self.stages("error per layer"):
            per_op = self._per_op()
        with self.stages("profile"):
            profile = host_profile(self.exported.model, self.target, fast=self.recipe.effort == "fast")
        with self.stages("golden samples"):
            golden = self._golden()
        gate = self._judge(quality, profile)
        variant = VariantResult(self.exported.name, self.exported.model, self.exported.scheme, quality, profile, gate)
        recipe = self.recipe.with_contract(self.sources.contract)
        provenance = self._provenance(quality)
        seconds = self.stages.total
        report = self._report(variant, per_op, gate, provenance, seconds)
        draft = self._draft(variant, golden, provenance, report)
        return ConvertResult(
            recipe, (variant,), gate, PendingBundle(draft, recipe, gate), report, self._notes(),
            self._warnings(quality), self.stages.seconds, seconds, self.findings, report["cache"],
        )  # fmt: skip

    def _evaluate(self) -> Quality:
        models = {FLOAT: self.model.tflite, self.exported.name: self.exported.model}
        evaluation = run_models(
            models,
            self.sources.contract,
            self.sources.data.evaluation,
            self.sources.evaluation,
            reference=FLOAT,
            threads=self.threads or min(4, os.cpu_count() or 1),
            progress=self.progress,
            label="evaluating",
        )
        return summarize(evaluation, self.exported.name, reference=FLOAT, scorer=self.scorer)

    def _per_op(self) -> tuple[OpError, ...]:
        if self.exported.scheme == FLOAT:
            return ()
        return per_op_errors(
            self.model.tflite,
            self.exported.model,
            self.sources.contract,
            self.sources.data.evaluation,
            self.sources.evaluation[:: max(1, len(self.sources.evaluation) // PER_OP_SAMPLES)][:PER_OP_SAMPLES],
            progress=self.progress,
        )

    def _golden(self) -> Golden:
        from edgeloop.bundle.golden_maker import CANDIDATES, make_golden

        data = self.sources.data.evaluation.subset(self.sources.evaluation)
        frames = (data.sample(int(i)) for i in pick(data, CANDIDATES, self.recipe.seed))
        return make_golden(self.sources.contract, frames, {self.exported.name: self.exported.model})

    def _judge(self, quality: Quality, profile: Profile) -> Gate:
        metrics = quality.metrics
        return judge(
            self.recipe.goals,
            Measurement(
                metrics.metric, metrics.float_, metrics.this, metrics.agreement, metrics.n, len(self.exported.model),
                profile.p95_ms if is_like_host(self.target) else None, bool(quality.guessing),
            ),
        )  # fmt: skip

    def _provenance(self, quality: Quality) -> dict[str, Any]:
        source = Path(self.recipe.source)
        return {
            "edgeloop": VERSION,
            "source": source.name,
            "source_sha256": _file_sha256(source),
            "float_sha256": keep_float_model(self.model.tflite),
            "frontend": self.model.frontend,
            "engine": self.recipe.engine if self.recipe.passes else None,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "versions": {**package_versions(), **self.model.versions},
        }

    def _warnings(self, quality: Quality) -> tuple[str, ...]:
        result = (quality.guessing,) if quality.guessing else ()
        return (*result, *self.sources.warnings, *_alarms(self.findings, self.sources))

    def _notes(self) -> tuple[str, ...]:
        return (*self.model.notes, *self.sources.notes, *self.exported.notes)

    def _report(
        self,
        variant: VariantResult,
        per_op: tuple[OpError, ...],
        gate: Gate,
        provenance: dict[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        quality, data = variant.quality, self.sources.data
        scores = {variant.name: quality.scores, FLOAT: quality.float_scores}
        labels = list(self.sources.contract.output.labels)
        return {
            "schema": 1,
            "kind": "convert",
            "name": self.recipe.bundle_name,
            "version": self.recipe.version,
            "target": self.recipe.target,
            "command": self.command,
            "goals": self.recipe.goals.to_dict(),
            "gate": gate.to_dict(),
            "variants": [variant.to_dict()],
            "float": {"bytes": len(self.model.tflite)},
            "scores": {name: s.to_dict() for name, s in scores.items() if s is not None},
            "agreement_kind": quality.agreement_kind,
            "confusion": None
            if quality.confusion is None
            else {"labels": labels, "matrix": quality.confusion.tolist()},
            "per_op": [error.to_dict() for error in per_op],
            "float_ops": list(self.exported.float_ops),
            "contract": self.sources.contract.to_dict(),
            "data": {
                "calibration": _data_summary(data, "calibration", len(self.sources.calibration)),
                "evaluation": _data_summary(data, "evaluation", len(self.sources.evaluation)),
            },
            "notes": list(self._notes()),
            "warnings": [*([quality.guessing] if quality.guessing else []), *self.sources.warnings],
            "findings": [f.to_dict() for f in self.findings],
            "cache": None if self.cache is None else self.cache.to_dict(),
            "refinement": [report.to_dict() for report in self.exported.passes],
            "repairs": [],
            "seconds": seconds,
            "stages": self.stages.seconds,
            "provenance": provenance,
        }

    def _draft(
        self, variant: VariantResult, golden: Golden, provenance: dict[str, Any], report: Mapping[str, Any]
    ) -> BundleDraft:
        float_scores = variant.quality.float_scores
        return BundleDraft(
            name=self.recipe.bundle_name,
            version=self.recipe.version or 1,  # the real one is claimed when the bundle is saved
            target=self.target.id,
            contract=self.sources.contract,
            variants=[
                VariantDraft(
                    variant.name, variant.model, variant.scheme, self.target.delegates, variant.quality.metrics,
                    variant.profile,
                )
            ],
            golden=golden,
            report=report,
            provenance={k: v for k, v in provenance.items() if v is not None},
            float_metrics=float_scores.to_dict() if float_scores else {},
        )  # fmt: skip


def _alarms(findings: Sequence[Finding], sources: Sources) -> tuple[str, ...]:
    """Findings as warnings; a model that guesses was pointed out already where the contract was detected."""
    said = any(GUESSING in warning for warning in sources.warnings)
    alarms = (f for f in findings if f.severity != NOTE and not (said and GUESSING in f.what))
    return tuple(f"data: {f.text}" for f in alarms)


def _data_summary(data: Datasets, which: str, samples: int) -> dict[str, Any] | None:
    if not samples:
        return None
    dataset = getattr(data, which)
    return {"source": dataset.source, "samples": samples, "labelled": dataset.labels is not None}


def _file_sha256(path: Path) -> str | None:
    """Of a file; a SavedModel folder has none."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
