"""Run a recipe's passes: the float model and the calibration samples in, the model as it will run out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop.runtime import open_session
from edgeloop.targets import Target
from edgeloop_converters.check_data.stability import RangeRows
from edgeloop_converters.float_passes import Lighter, Setting, run_float_passes
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.schemes import scheme_named
from edgeloop_converters.schemes.borders import set_io
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.shared_work import Around
from edgeloop_converters.sources import Sources, sample_shape
from edgeloop_converters.stages import Stages

if TYPE_CHECKING:
    from edgeloop_converters.assistant import Assistant
    from edgeloop_converters.calibration import Ranges
    from edgeloop_converters.passes.refine import Refined
    from edgeloop_converters.passes.report import PassReport
    from edgeloop_converters.repair.records import Repair

FLOAT = "float"
REFINED_EFFORTS = ("default", "best")


@dataclass(frozen=True)
class Exported:
    """The model as it will run, and what the passes had to say.

    repairs: rungs, where it missed its goals at first. blame: the ops at fault with their numbers, "" where not sought.
    float_model: the float model whose inner tensors the file's stand for where channels were scaled; None: as given.
    stages: the float model after each of the recipe's passes over it.
    """

    name: str
    model: bytes
    scheme: str
    notes: tuple[str, ...] = ()
    float_ops: tuple[str, ...] = ()
    passes: tuple[PassReport, ...] = ()
    repairs: tuple[Repair, ...] = ()
    blame: str = ""
    float_model: bytes | None = None
    stages: tuple[bytes, ...] = ()

    @property
    def in_float(self) -> tuple[str, ...]:
        """Builtin names of all ops that compute in float: those that stayed so, and those that a repair moved."""
        moved = (op.name for repair in self.repairs if repair.accepted for op in repair.ops)
        return (*self.float_ops, *moved)


def export(
    recipe: Recipe,
    target: Target,
    model: FloatModel,
    sources: Sources,
    trust_code: bool,
    stages: Stages,
    progress: Progress,
    rows: RangeRows | None = None,
    assistant: Assistant | None = None,
    around: Around | None = None,
) -> Exported:
    """Run the recipe's passes. rows: takes in the extremes of every calibration sample, where there is calibration.

    assistant: a process that packs; None: this one. around: shared with other exports of the conversion.
    """
    scheme = scheme_named(recipe.scheme)
    lighter = _lighter(recipe, target, model, sources, stages, progress, around or Around())
    told = tuple(report.note() for report in lighter.reports)
    if scheme.load is None:
        name = f"{FLOAT}-lite" if lighter.reports else FLOAT  # "float" is the model that it is compared with
        return Exported(name, lighter.tflite, FLOAT, told, passes=lighter.reports, stages=lighter.stages)
    given, model = model, replace(model, tflite=lighter.tflite)
    from edgeloop_converters.calibration import calibrate, model_inputs
    from edgeloop_converters.quantization import Quantized, float_ops

    data, indices = sources.data.calibration, sources.calibration

    def inputs() -> Iterator[tuple[npt.NDArray[Any], ...]]:
        return model_inputs(sources.contract, model.tflite, data, indices)

    ranges: Ranges | None = None
    fused = recipe.engine == "aeq" and not lighter.reports and _takes_fused_kernels(model, scheme.name)
    if recipe.engine == "tflite" or fused:
        from edgeloop_converters.quantization import quantize_int8_tflite

        with stages("quantize"):
            done = quantize_int8_tflite(
                Path(recipe.source),
                inputs(),
                trust_code=trust_code,
                signature=recipe.signature or None,
                shape=recipe.shapes[0].given() if recipe.shapes else None,
                sample_shape=sample_shape(recipe, sources.data),
                fused=fused,
                progress=progress,
            )
    elif lighter.int8 is not None:
        done = Quantized(lighter.int8, float_ops=float_ops(Graph.read(lighter.int8)))
    else:
        if scheme.calibrated:
            with stages("calibrate"):
                on_sample = None if rows is None else rows.add
                ranges = calibrate(
                    model.tflite,
                    inputs(),
                    method=recipe.calibration_method,
                    total=len(indices),
                    progress=progress,
                    on_sample=on_sample,
                )
        with stages("quantize"):
            job = Job(
                model.tflite,
                ranges,
                inputs,
                len(indices),
                target.has_edgetpu,
                recipe.scheme_options,
                progress,
                assistant,
            )
            done = scheme.load()(job)
    tflite, notes = done.tflite, done.notes
    reports: tuple[PassReport, ...] = ()
    twin: bytes | None = None
    if ranges is not None and scheme.refined and recipe.effort in REFINED_EFFORTS:
        from edgeloop_converters.passes.flips import judge_by_flips

        with stages("refine"):
            refined = _refine(recipe, model.tflite, tflite, ranges, sources, progress)
            tflite, reports = judge_by_flips(
                model.tflite, tflite, refined, inputs(), output=sources.contract.output.index
            )
            twin = refined.float_model if tflite == refined.tflite else None
        notes = (*notes, *(report.note() for report in reports))
    if recipe.io not in ("", scheme.io):
        tflite = set_io(tflite, recipe.io)
    check_loads(tflite, scheme.name)
    if target.has_edgetpu:
        from edgeloop_converters.coral import check_export, prepared

        tflite = prepared(tflite)
        notes = (*notes, *check_export(tflite, target))
    twin = twin or (model.tflite if model != given else None)
    return Exported(
        scheme.name,
        tflite,
        scheme.name,
        (*told, *notes),
        done.float_ops,
        (*lighter.reports, *reports),
        float_model=twin,
        stages=lighter.stages,
    )


def _lighter(
    recipe: Recipe,
    target: Target,
    model: FloatModel,
    sources: Sources,
    stages: Stages,
    progress: Progress,
    around: Around,
) -> Lighter:
    """The float model after the recipe's passes over it."""
    if not recipe.float_passes:
        return Lighter(model.tflite)
    setting = Setting(
        sources.contract,
        sources.data.calibration,
        sources.learnable,
        target,
        recipe.seed,
        progress,
        model.tflite,
        around,
    )
    with stages("float passes"):
        return run_float_passes(model.tflite, recipe.float_passes, setting)


def _takes_fused_kernels(model: FloatModel, scheme: str) -> bool:
    """A Keras file whose recurrent layers were too long to unroll."""
    from edgeloop_converters.quantization import loops_of

    return scheme == "int8" and model.frontend in ("h5", "keras") and bool(loops_of(Graph.read(model.tflite)))


def check_loads(tflite: bytes, scheme: str) -> None:
    """Raises UsageError where the runtime refuses what came out: better said of the scheme than of a broken file."""
    try:
        open_session(tflite).close()
    except RefusedError as error:
        raise UsageError(
            f"--scheme {scheme}: the runtime cannot load what came out ({error.message[:200]})",
            hint="take --scheme int8, or look for tensors that are nearly all zero on the calibration data",
        ) from error


def _refine(
    recipe: Recipe, model: bytes, packed: bytes, ranges: Ranges, sources: Sources, progress: Progress
) -> Refined:
    from edgeloop_converters.calibration import model_inputs
    from edgeloop_converters.passes.refine import refine, samples_wanted

    indices = sources.calibration
    chosen = np.random.default_rng(recipe.seed).permutation(indices)[: samples_wanted(len(indices), recipe.effort)]
    inputs = model_inputs(sources.contract, model, sources.data.calibration, chosen)
    samples = [tuple([array.copy() for array in arrays]) for arrays in inputs]  # the reader reuses its buffers
    return refine(model, packed, ranges, samples, effort=recipe.effort, seed=recipe.seed, progress=progress)
