"""What each pass of a recipe contributed: figures before and after it, and what the recipe gives without it.

The figures are of validation samples, of which nothing was learnt; without such, of the files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop.bundle import Metrics
from edgeloop.errors import EdgeloopError
from edgeloop_converters.buckets import Basis
from edgeloop_converters.dynamic.running_cost import MACS, predictor_for
from edgeloop_converters.evaluate import run_models, summarize
from edgeloop_converters.export import FLOAT
from edgeloop_converters.measure import Candidate, Measuring
from edgeloop_converters.recipe_steps import FLOAT_PASSES, QAT, PassStep, plan_passes
from edgeloop_converters.shared_work import Around

if TYPE_CHECKING:
    from edgeloop_converters.check_data.finding import Finding

    Export = Callable[[Basis], tuple[Candidate, tuple[Finding, ...]]]

_MOST_SAMPLES = 500
_THIS = "this"


@dataclass(frozen=True)
class Figures:
    """Of one model. bytes: of the file. value: the metric on the validation samples, None without them.
    simd_instructions: of one int8 inference on the target's core, predicted op by op; None where they are not counted.
    """

    bytes: int
    macs: int
    value: float | None = None
    agreement: float | None = None
    simd_instructions: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Contribution:
    """One pass. seconds: None where it was left out."""

    step: str
    before: Figures
    after: Figures
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        found = {"pass": self.step, "before": self.before.to_dict(), "after": self.after.to_dict()}
        return found if self.seconds is None else {**found, "seconds": round(self.seconds, 3)}

    def line(self, metric: str) -> str:
        """For people."""
        a, b = self.before, self.after
        parts = [f"{a.bytes / 1000:.1f} -> {b.bytes / 1000:.1f} kB"]
        if a.simd_instructions is not None and b.simd_instructions is not None:
            if a.simd_instructions != b.simd_instructions:
                parts.append(f"{a.simd_instructions / 1e6:.2f} -> {b.simd_instructions / 1e6:.2f} M SIMD instructions")
        elif a.macs != b.macs:
            parts.append(f"{a.macs / 1e6:.2f} -> {b.macs / 1e6:.2f} M multiply-accumulates")
        if a.value is not None and b.value is not None:
            parts.append(f"{metric} {a.value:.2%} -> {b.value:.2%} ({(b.value - a.value) * 100:+.2f} pt)")
        else:
            parts.append(f"{metric} not measured")
        return f"{self.step}: {', '.join(parts)}"


@dataclass(frozen=True)
class Ablation:
    """steps: one after the other, the last one quantizes. without: the whole recipe against it without one pass; before
    is without. failed: passes without which nothing comes out, and why. unit: of what an inference costs."""

    metric: str
    samples: int
    steps: tuple[Contribution, ...]
    without: tuple[Contribution, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    unit: str = MACS

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric, "samples": self.samples, "steps": [s.to_dict() for s in self.steps],
            "without": [w.to_dict() for w in self.without], "failed": dict(self.failed),
            "unit": self.unit,
        }  # fmt: skip

    def lines(self) -> tuple[str, ...]:
        """For people."""
        head = f"ablation: cost in {self.unit}"
        if not self.samples:
            head += (
                f"; {self.metric} is not measured: --ablation, or validation = true in a recipe, keeps samples for it"
            )
        return (
            head,
            *(f"ablation: {step.line(self.metric)}" for step in self.steps),
            *(f"ablation: without {one.line(f'with it, {self.metric}')}" for one in self.without),
            *(f"ablation: without {name}: {why}" for name, why in self.failed.items()),
        )


def ablate(
    basis: Basis, candidate: Candidate, how: Measuring, around: Around, export: Export | None = None
) -> Ablation | None:
    """Of the passes that made `candidate` from `basis`; None where its recipe has none over the float model.

    export: to leave out each pass in turn, None for not doing that.
    """
    steps = basis.recipe.float_passes
    if not steps or len(candidate.exported.stages) != len(steps):
        return None
    judged = basis.sources.validation
    metric = "agreement" if basis.sources.data.calibration.labels is None else "accuracy"

    predictor = predictor_for(how.target, around, how.progress)

    def look(model: bytes, twin: bytes | None = None) -> Figures:
        """twin: the float model of an int8 file, which costs are predicted of."""
        found = _metrics(model, basis, how) if len(judged) else None
        cost = predictor.of(twin or model)
        return Figures(
            len(model), int(cost.macs), None if found is None else found.this,
            None if found is None else found.agreement, cost.simd_instructions,
        )  # fmt: skip

    with how.stages("ablation"):
        models = [basis.model.tflite, *candidate.exported.stages]
        figures = [look(model) for model in models]
        quantized = look(candidate.exported.model, models[-1])
        reports = candidate.exported.passes
        found = [
            Contribution(step.name, a, b, report.seconds)
            for step, report, a, b in zip(steps, reports, figures, figures[1:], strict=False)
        ]
        if candidate.exported.scheme != FLOAT:
            found.append(Contribution("quantize", figures[-1], quantized))
        without: list[Contribution] = []
        failed: dict[str, str] = {}
        for i, step in enumerate(steps if export is not None else ()):
            assert export is not None
            name = f"{step.name} ({i + 1}.)" if sum(s.name == step.name for s in steps) > 1 else step.name
            try:
                other = export(_without(basis, i))[0]
            except EdgeloopError as error:
                failed[name] = error.message
                continue
            twin = other.exported.stages[-1] if other.exported.stages else basis.model.tflite
            without.append(Contribution(name, look(other.exported.model, twin), quantized))
    kept = min(len(judged), _MOST_SAMPLES)
    return Ablation(metric, kept, tuple(found), tuple(without), failed, predictor.unit)


def _without(basis: Basis, left_out: int) -> Basis:
    recipe = basis.recipe
    steps = [s for i, s in enumerate(recipe.float_passes) if i != left_out]
    quantizing: Sequence[PassStep] = [s for s in recipe.passes if s.name not in FLOAT_PASSES]
    if recipe.float_passes[left_out].name == QAT:  # then ranges are measured
        quantizing = plan_passes(recipe.scheme, recipe.engine, recipe.effort, io=recipe.io)
    return replace(basis, recipe=replace(recipe, passes=(*steps, *quantizing)))


def _metrics(model: bytes, basis: Basis, how: Measuring) -> Metrics:
    sources = basis.sources
    chosen = sources.validation
    if len(chosen) > _MOST_SAMPLES:
        chosen = np.sort(np.random.default_rng(how.recipe.seed).permutation(chosen)[:_MOST_SAMPLES])
    evaluation = run_models(
        {FLOAT: basis.model.tflite, _THIS: model}, sources.contract, sources.data.calibration, chosen, reference=FLOAT,
        threads=how.threads or 1, progress=how.progress, label="ablation",
    )  # fmt: skip
    return summarize(evaluation, _THIS, reference=FLOAT, scorer=None).metrics
