"""From measured variants to what a conversion gives back: the bundle's draft, the report, notes and warnings."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle import BundleDraft, Golden, Profile, VariantDraft
from edgeloop.bundle.compiled import with_answers_of
from edgeloop.bundle.packer import delegates_of
from edgeloop.padding import padded
from edgeloop.version import VERSION
from edgeloop_converters.ablation import Ablation
from edgeloop_converters.alarms import measured_alarms
from edgeloop_converters.analysis_summary import analysis_summary
from edgeloop_converters.check_data import NOTE, Finding
from edgeloop_converters.coral import (
    NOT_COMPILED,
    CompiledVariant,
    check_repaired,
    compile_variants,
    confirmed_by,
)
from edgeloop_converters.data import pick
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.evaluate.summary import GUESSING
from edgeloop_converters.export import FLOAT
from edgeloop_converters.float_cache import keep_float_model
from edgeloop_converters.gate import Gate, joined
from edgeloop_converters.measure import Candidate, Measured, Measuring
from edgeloop_converters.portable import changed_inputs, input_hashes
from edgeloop_converters.result import ConvertResult, PendingBundle
from edgeloop_converters.sources import Datasets, Sources
from edgeloop_converters.versions import package_versions

if TYPE_CHECKING:
    from edgeloop_converters.dynamic.trade import DynamicTrade


@dataclass(frozen=True)
class Assembly:
    """What came of a conversion. measured[0] is what the target runs; a report shows its numbers where there is room
    for one variant.
    """

    measured: tuple[Measured, ...]
    how: Measuring
    command: str
    findings: tuple[Finding, ...] = ()
    cache: DecodedCache | None = None
    told: tuple[str, ...] = ()
    """What was decided on the way, for people."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """The same of a search for a smaller model, as data; {} where there was none."""
    ablation: Ablation | None = None
    trade: DynamicTrade | None = None

    def result(self) -> ConvertResult:
        with self.how.stages("golden samples"):
            golden = self._golden()
        compiled, said = self._compiled()
        for one in compiled:
            golden = with_answers_of(golden, one.source, one.name)
        stages, variants = self.how.stages, tuple(m.variant for m in self.measured)
        gate = joined({v.name: v.gate for v in variants})
        recipe = self.how.recipe.with_contract(self._first.sources.contract)
        provenance = self._provenance()
        seconds = stages.total
        report = self._report(gate, provenance, seconds, compiled)
        draft = self._draft(golden, provenance, report, compiled)
        return ConvertResult(
            recipe, variants, gate, PendingBundle(draft, recipe, gate, self._hashes), report, (*self._notes(), *said),
            (*self._warnings(), *alarms(self.findings, self._first.sources)),
            stages.seconds, seconds, self.findings, report["cache"], compiled,
        )  # fmt: skip

    def _compiled(self) -> tuple[tuple[CompiledVariant, ...], tuple[str, ...]]:
        """Variants for the Edge TPU, where the target has one and its compiler is here; and what to say of it."""
        if not self.how.target.has_edgetpu or self.measured[0].variant.scheme == FLOAT:
            return (), ()
        models = [(v.name, v.model, v.scheme) for v in (m.variant for m in self.measured)]
        with self.how.stages("compile"):
            compiled, failed = compile_variants(models, self.how.target, self.how.progress)
        repaired = [m.variant.model for m in self.measured if m.variant.repairs]
        said = (
            *(text for model in repaired for text in check_repaired(model, self.how.target)),
            *failed,
            *(text for one in compiled for text in one.notes()),
            *(() if compiled else (NOT_COMPILED,)),
        )
        for text in said:
            self.how.progress.note(text)
        return compiled, said

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return input_hashes(self.how.recipe, self._first.sources.data)

    @property
    def _first(self) -> Candidate:
        return self.measured[0].candidate

    def _golden(self) -> Golden:
        from edgeloop.bundle.golden_maker import CANDIDATES, make_golden

        # Every shape bucket holds what the smallest does.
        smallest = min((m.candidate for m in self.measured), key=_size)
        sources = smallest.sources
        data = sources.data.evaluation.subset(sources.evaluation)
        chosen = (data.sample(int(i)) for i in pick(data, CANDIDATES, self.how.recipe.seed))
        frames = (padded(sources.contract.inputs, frame, smallest.input_shapes) for frame in chosen)
        return make_golden(sources.contract, frames, {m.variant.name: m.variant.model for m in self.measured})

    def _provenance(self) -> dict[str, Any]:
        source, model = Path(self.how.recipe.source), self._first.model
        return {
            "edgeloop": VERSION,
            "source": source.name,
            "source_sha256": self._hashes.get("source"),
            "float_sha256": keep_float_model(model.tflite),
            "float_sha256_of": self._float_models(),
            "twin_sha256_of": self._twins(),
            "frontend": model.frontend,
            "engine": self.how.recipe.engine if self.how.recipe.passes else None,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "versions": {**package_versions(), **model.versions},
        }

    def _float_models(self) -> dict[str, str] | None:
        """By variant, where they do not come from one float model."""
        models = {m.variant.name: m.candidate.model.tflite for m in self.measured}
        if len(set(models.values())) == 1:
            return None
        return {name: keep_float_model(tflite) for name, tflite in models.items()}

    def _twins(self) -> dict[str, str] | None:
        """By variant, the float models that inner tensors are compared with, where equalization made others of them."""
        twins = {m.variant.name: m.candidate.exported.float_model for m in self.measured}
        return {name: keep_float_model(twin) for name, twin in twins.items() if twin} or None

    def _warnings(self) -> tuple[str, ...]:
        """All but those on the data, which a report shows by themselves."""
        guessing = [m.quality.guessing for m in self.measured if m.quality.guessing]
        first = self._first
        judged = [m for m in self.measured if not m.candidate.is_step]
        own = [text for m in judged for text in measured_alarms(m, self.how.recipe, self.how.target)]
        return _unique(
            (
                *changed_inputs(self.how.recipe, self._hashes),
                *guessing,
                *first.model.warnings,
                *first.sources.warnings,
                *own,
            )
        )

    def _notes(self) -> tuple[str, ...]:
        notes: list[str] = list(self.told)
        for each in (m.candidate for m in self.measured):
            notes += [*each.model.notes, *each.sources.notes, *each.exported.notes]
        return _unique(notes)

    def _report(
        self, gate: Gate, provenance: dict[str, Any], seconds: float, compiled: Sequence[CompiledVariant] = ()
    ) -> dict[str, Any]:
        recipe, first = self.how.recipe, self.measured[0]
        quality, sources, exported = first.quality, self._first.sources, self._first.exported
        scores = {FLOAT: quality.float_scores, **{m.variant.name: m.quality.scores for m in self.measured}}
        labels = list(sources.contract.output.labels)
        return {
            "schema": 1,
            "kind": "convert",
            "name": recipe.bundle_name,
            "version": recipe.version,
            "target": recipe.target,
            "command": self.command,
            "goals": recipe.goals.to_dict(),
            "gate": gate.to_dict(),
            "variants": [m.variant.to_dict() for m in self.measured],
            "float": {"bytes": len(self._first.model.tflite), "profile": _plain(first.latency.float_profile)},
            "latency": _histograms(self.measured),
            "scores": {name: s.to_dict() for name, s in scores.items() if s is not None},
            "agreement_kind": quality.agreement_kind,
            "confusion": None
            if quality.confusion is None
            else {"labels": labels, "matrix": quality.confusion.tolist()},
            "per_op": [error.to_dict() for error in first.per_op],
            "ranges": [one.to_dict() for one in first.ranges],
            "analysis": analysis_summary(
                first.variant.model, self.how.target, confirmed_by(compiled, first.variant.name)
            ),
            "float_ops": list(exported.in_float),
            "contract": sources.contract.to_dict(),
            "data": {
                "calibration": _data_summary(sources.data, "calibration", len(sources.calibration)),
                "evaluation": _data_summary(sources.data, "evaluation", len(sources.evaluation)),
            },
            "notes": list(self._notes()),
            "warnings": list(self._warnings()),
            "dynamic": None if self.trade is None else self.trade.to_dict(),
            "findings": [f.to_dict() for f in self.findings],
            "cache": None if self.cache is None else self.cache.to_dict(),
            "compiled": [one.to_dict() for one in compiled],
            "search": dict(self.search) or None,
            "ablation": None if self.ablation is None else self.ablation.to_dict(),
            "refinement": [report.to_dict() for report in exported.passes],
            "repairs": [repair.to_dict() for repair in exported.repairs],
            "seconds": seconds,
            "stages": self.how.stages.seconds,
            "provenance": provenance,
        }

    def _draft(
        self,
        golden: Golden,
        provenance: dict[str, Any],
        report: dict[str, Any],
        compiled: Sequence[CompiledVariant] = (),
    ) -> BundleDraft:
        recipe, target, float_scores = self.how.recipe, self.how.target, self.measured[0].quality.float_scores
        shapes_of = {m.variant.name: m.candidate.input_shapes for m in self.measured}
        on_cpu, on_edgetpu = (delegates_of(target, runs_on_cpu=is_cpu) for is_cpu in (True, False))
        return BundleDraft(
            name=recipe.bundle_name,
            version=recipe.version or 1,  # the real one is claimed when the bundle is saved
            target=target.id,
            contract=self._first.sources.contract,
            variants=[
                *(
                    VariantDraft(c.name, c.model, c.scheme, on_edgetpu, input_shapes=shapes_of[c.source])
                    for c in compiled
                ),
                *(
                    VariantDraft(v.name, v.model, v.scheme, on_cpu, v.quality.metrics, v.profile, v.input_shapes)
                    for v in (m.variant for m in self.measured)
                ),
            ],
            golden=golden,
            report=report,
            provenance={k: v for k, v in provenance.items() if v is not None},
            float_metrics=float_scores.to_dict() if float_scores else {},
        )


def alarms(findings: Sequence[Finding], sources: Sources) -> tuple[str, ...]:
    """Findings as warnings; a model that guesses was pointed out already where the contract was detected."""
    said = any(GUESSING in warning for warning in sources.warnings)
    graver = (f for f in findings if f.severity != NOTE and not (said and GUESSING in f.what))
    return tuple(f"data: {f.text}" for f in graver)


def _plain(profile: Profile | None) -> dict[str, Any] | None:
    return None if profile is None else dict(vars(profile))


def _histograms(measured: Sequence[Measured]) -> dict[str, Any]:
    """By variant, and of the float model: [above, up to and including, count] in ms, of the model alone."""
    found = {FLOAT: measured[0].latency.float_histogram, **{m.variant.name: m.latency.histogram for m in measured}}
    return {name: [list(bucket) for bucket in histogram] for name, histogram in found.items() if histogram}


def _size(candidate: Candidate) -> int:
    return sum(math.prod(shape) for shape in candidate.input_shapes)


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _data_summary(data: Datasets, which: str, samples: int) -> dict[str, Any] | None:
    if not samples:
        return None
    dataset = getattr(data, which)
    return {"source": dataset.source, "samples": samples, "labelled": dataset.labels is not None}
