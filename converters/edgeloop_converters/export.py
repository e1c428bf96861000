"""Run a recipe's passes: the float model and the calibration samples in, the model as it will run out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.sources import Sources
from edgeloop_converters.stages import Stages

FLOAT = "float"


@dataclass(frozen=True)
class Exported:
    """The model as it will run, and what the passes had to say."""

    name: str
    model: bytes
    scheme: str
    notes: tuple[str, ...] = ()
    float_ops: tuple[str, ...] = ()


def export(
    recipe: Recipe,
    target: Target,
    model: FloatModel,
    sources: Sources,
    trust_code: bool,
    stages: Stages,
    progress: Progress,
) -> Exported:
    """Run the recipe's passes."""
    if not recipe.passes:
        return Exported(FLOAT, model.tflite, FLOAT)
    from edgeloop_converters.calibration import calibrate, model_inputs
    from edgeloop_converters.quantization import quantize_int8, quantize_int8_tflite

    data, indices = sources.data.calibration, sources.calibration
    inputs = model_inputs(sources.contract, model.tflite, data, indices)
    if recipe.engine == "tflite":
        with stages("quantize"):
            done = quantize_int8_tflite(
                Path(recipe.source),
                inputs,
                trust_code=trust_code,
                signature=recipe.signature or None,
                progress=progress,
            )
    else:
        with stages("calibrate"):
            ranges = calibrate(model.tflite, inputs, total=len(indices), progress=progress)
        with stages("quantize"):
            is_edgetpu = target.accelerator is not None and target.accelerator.delegate == "edgetpu"
            done = quantize_int8(model.tflite, ranges, fully_connected_per_tensor=is_edgetpu, progress=progress)
    notes = done.notes
    if target.accelerator is not None and target.accelerator.delegate == "edgetpu":
        notes = (*notes, "this int8 model is not compiled for the Edge TPU: until then it runs on the board's CPU")
    return Exported(done.scheme, done.tflite, done.scheme, notes, done.float_ops)
