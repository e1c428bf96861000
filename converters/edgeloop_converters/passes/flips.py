"""Decisions that quantization changes: the last word on a refinement, in the unit that users see."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import quantize
from edgeloop.runtime import Session, open_session
from edgeloop_converters.passes.refine import Refined
from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]


def judge_by_flips(
    float_model: bytes, packed: bytes, refined: Refined, inputs: Iterable[Sequence[Array]], *, output: int = 0
) -> tuple[bytes, tuple[PassReport, ...]]:
    """(the model to ship, all reports): the refined one, unless it decides otherwise than the float model more often.

    A smaller error of the outputs is not always a better decision: keyword spotting showed both. More often means by
    more than chance, one standard error of the difference of the two counts. `inputs`: every calibration sample, one
    array per model input; most were not seen by the passes. output: which one decides.
    """
    reports = refined.refinement.reports
    if refined.tflite == packed:
        return packed, reports
    began = time.monotonic()
    before, after = count_flips(float_model, (packed, refined.tflite), inputs, output)
    accepted = after - before <= math.sqrt(after + before)
    detail = "other decisions than the float model on the calibration samples"
    if not accepted:
        detail += ": more than before, so the refinement is dropped"
        reports = tuple(replace(report, accepted=False) for report in reports)
    figures = ({"flips": float(before)}, {"flips": float(after)})
    report = PassReport("decisions", detail, time.monotonic() - began, *figures, accepted=accepted)
    return (refined.tflite if accepted else packed), (*reports, report)


def count_flips(
    float_model: bytes, models: Sequence[bytes], inputs: Iterable[Sequence[Array]], output: int = 0
) -> list[int]:
    """For each model, on how many of `inputs` (float model inputs of a sample) its best class is another than the float
    model's. All zeros where the output has not two values or more.
    """
    sessions = [open_session(model) for model in (float_model, *models)]
    try:
        flips = [0] * len(models)
        if int(np.prod(sessions[0].outputs[output].shape)) < 2:
            return flips
        for arrays in inputs:
            wanted, *found = [_best(session, arrays, output) for session in sessions]
            for i, best in enumerate(found):
                flips[i] += best != wanted
        return flips
    finally:
        for session in sessions:
            session.close()


def _best(session: Session, arrays: Sequence[Array], output: int) -> int:
    for i, (info, values) in enumerate(zip(session.inputs, arrays, strict=True)):
        session.set_input(i, quantize(values, info.affine, info.dtype) if info.affine.is_quantized else values)
    session.invoke()
    return int(session.output(output).argmax())
