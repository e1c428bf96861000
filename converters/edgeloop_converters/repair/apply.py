"""The ladder around a conversion: from an exported file and its recipe to the one that is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.evaluate import per_op_errors
from edgeloop_converters.evaluate.per_op import SAMPLES as PER_OP_SAMPLES
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.repair.ladder import Case, Repaired, blame, climb, not_tried
from edgeloop_converters.repair.plan import BUDGETS, Situation, why_no_repair
from edgeloop_converters.repair.samples import gather
from edgeloop_converters.schemes import scheme_named
from edgeloop_converters.sources import Sources

if TYPE_CHECKING:
    from edgeloop_converters.export import Exported


def repair_exported(
    exported: Exported,
    float_model: bytes,
    sources: Sources,
    recipe: Recipe,
    target: Target,
    missed: Sequence[str],
    progress: Progress,
) -> Exported:
    """The file with the repairs that helped on held-out calibration samples, and the record of all that were tried.

    missed: why, for the record. The evaluation data are not looked at.
    """
    scheme = scheme_named(recipe.scheme)
    done = frozenset(report.name for report in exported.passes)
    situation = Situation(scheme, recipe.engine, target.has_edgetpu, len(sources.calibration), done)
    why_not = why_no_repair(situation)
    if why_not:
        return replace(exported, repairs=not_tried(f"{why_not}; {'; '.join(missed)}"))
    try:
        return _climbed(exported, float_model, sources, recipe, situation, missed, progress)
    except (EdgeloopError, RuntimeError, ValueError) as error:  # the file is what it was without
        what = (str(error) or type(error).__name__).splitlines()[0][:200]
        return replace(exported, repairs=not_tried(f"the repair gave up: {what}"))


def _climbed(
    exported: Exported,
    float_model: bytes,
    sources: Sources,
    recipe: Recipe,
    situation: Situation,
    missed: Sequence[str],
    progress: Progress,
) -> Exported:
    material = gather(sources, float_model, BUDGETS[recipe.effort], recipe.seed)
    some = sources.calibration[:: max(1, len(sources.calibration) // PER_OP_SAMPLES)][:PER_OP_SAMPLES]
    errors = per_op_errors(float_model, exported.model, sources.contract, sources.data.calibration, some)
    case = Case(
        exported.model, float_model, recipe.goals, sources.contract.output, situation, recipe.effort, recipe.seed,
        missed=tuple(missed), keep_io=recipe.io not in ("", "float"),
    )  # fmt: skip
    repaired = climb(case, material, {e.output: e.snr_db for e in errors}, progress)
    return _with(exported, repaired)


def _with(exported: Exported, repaired: Repaired) -> Exported:
    notes = tuple(repair.note() for repair in repaired.repairs)
    return replace(
        exported,
        model=repaired.model,
        notes=(*exported.notes, *notes),
        repairs=repaired.repairs,
        blame=blame(repaired),
        float_model=repaired.float_model or exported.float_model,
    )
