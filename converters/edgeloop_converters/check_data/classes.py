"""Class ids: coverage, imbalance, and whether there are samples enough for the numbers to mean anything. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeloop_converters.check_data.finding import NOTE, SEVERE, WARNING, Finding

_FEW_TO_CALIBRATE = 32
_TOO_FEW_TO_CALIBRATE = 8
_FEW_TO_EVALUATE = 30
_ENOUGH_PER_CLASS = 3
_UNEVEN = 10.0

Indices = npt.NDArray[np.int64]


def count_findings(calibration: int | None, evaluation: int) -> list[Finding]:
    """How many samples there are for either purpose. calibration None: nothing is calibrated."""
    found = []
    if calibration is not None and calibration < _FEW_TO_CALIBRATE:
        found.append(
            Finding(
                "samples",
                SEVERE if calibration < _TOO_FEW_TO_CALIBRATE else WARNING,
                f"only {calibration} samples to calibrate with: ranges will be those of these samples",
                "give 100 or more, of all classes and conditions",
                {"calibration": calibration},
            )
        )
    if evaluation < _FEW_TO_EVALUATE:
        half_width = 1.96 * math.sqrt(0.25 / max(1, evaluation))
        found.append(
            Finding(
                "samples",
                WARNING,
                f"only {evaluation} samples to evaluate on: a share is known to +-{half_width * 100:.0f} points",
                "give some hundred: with 1,000 it is +-3",
                {"evaluation": evaluation},
            )
        )
    return found


def class_findings(labels: Indices | None, classes: int | None, names: Sequence[str], role: str) -> list[Finding]:
    """Coverage of `classes` model outputs by class ids. Nothing to say without labels."""
    if labels is None or classes is None or classes < 2 or not len(labels):
        return []
    counts = np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)
    present = np.flatnonzero(counts)
    if len(present) == 1 and len(labels) > 1:
        what = f"all {len(labels)} {role} samples are of one class, {_name(int(present[0]), names)}, of {classes}"
        harm = "ranges are those of this class only" if role == "calibration" else "accuracy then says little"
        fix = "give samples of all classes"
        return [Finding("classes", SEVERE, f"{what}: {harm}", fix, {"present": 1, "classes": classes})]
    found = []
    # With fewer samples than a few per class, absent classes are the draw and not the data.
    missing = np.flatnonzero(counts == 0)
    if len(missing) and len(labels) >= _ENOUGH_PER_CLASS * classes:
        first = ", ".join(_name(int(i), names) for i in missing[:3]) + (", ..." if len(missing) > 3 else "")
        found.append(
            Finding(
                "classes",
                WARNING,
                f"{len(missing)} of {classes} classes have no {role} sample: {first}",
                "add samples of them; if that is a background class, all is well",
                {"missing": [int(i) for i in missing[:100]], "classes": classes},
            )
        )
    least = int(present[counts[present].argmin()])
    most = int(present[counts[present].argmax()])
    ratio = counts[most] / counts[least]
    if ratio > _UNEVEN and len(labels) >= _ENOUGH_PER_CLASS * classes:
        found.append(
            Finding(
                "classes",
                NOTE,
                f"classes are uneven in the {role} data: {counts[most]} samples of {_name(most, names)}, "
                f"{counts[least]} of {_name(least, names)}",
                "look at precision and recall beside accuracy, or even them out",
                {"most": int(counts[most]), "least": int(counts[least])},
            )
        )
    return found


def _name(class_id: int, names: Sequence[str]) -> str:
    return f"'{names[class_id]}'" if class_id < len(names) and names[class_id] else str(class_id)
