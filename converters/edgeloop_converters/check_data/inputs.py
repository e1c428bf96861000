"""Values and shapes of the samples: dtype, range, layout, blank ones, outliers. Pure functions of what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import InputSpec
from edgeloop.pictures import bits_per_channel, exif_orientation
from edgeloop_converters.check_data.finding import NOTE, SEVERE, WARNING, Finding
from edgeloop_converters.check_data.observe import Observed
from edgeloop_converters.data import IMAGE

_BLANK_STD = 1.0
_BLANK_IS_SEVERE = 0.05
_FAR_OUT = 12.0
_OTHER_SCALE = 10.0
"""Between the spreads of samples for calibration and for evaluation: beyond that they are not scaled alike."""
_MIN_FOR_OUTLIERS = 20
_MIN_VALUES = 8
_MANY_GRAY = 0.9
_BITS_READ = 8


def input_findings(observed: Observed, spec: InputSpec, role: str) -> list[Finding]:
    """All checks on values. role: "calibration" or "evaluation", for the text."""
    if not observed.samples:
        return _unreadable(observed, role)
    values = _range(observed, spec, role)
    return [
        *_unreadable(observed, role),
        *_not_finite(observed, role),
        *values,
        *(_blank(observed, role) if not values else ()),
        *_outliers(observed, role),
        *_gray(observed, spec, role),
        *_depth(observed, role),
        *_turned(observed, role),
    ]


def value_findings(observed: Observed, spec: InputSpec, role: str) -> list[Finding]:
    """What can be said of the values of one input among several."""
    if not observed.samples:
        return _unreadable(observed, role)
    return [*_unreadable(observed, role), *_not_finite(observed, role), *_range(observed, spec, role)]


def unlike_findings(calibration: Observed, evaluation: Observed) -> list[Finding]:
    """Two sets of samples that cannot have been scaled alike: ranges of the one are not those of the other."""
    if not (calibration.samples and evaluation.samples) or calibration.kind != evaluation.kind:
        return []
    spreads = [float(np.quantile(one.column("std"), 0.5)) for one in (calibration, evaluation)]
    if min(spreads) <= 0 or max(spreads) < _OTHER_SCALE * min(spreads):
        return []
    said = [f"{o.column('low').min():.4g}..{o.column('high').max():.4g}" for o in (calibration, evaluation)]
    what = (
        f"calibration samples are {said[0]} and evaluation samples {said[1]}, {max(spreads) / min(spreads):.0f} times "
        "apart: ranges would be those of other numbers"
    )
    return [
        Finding(
            "range", SEVERE, what, "scale both alike", {"calibration_std": spreads[0], "evaluation_std": spreads[1]}
        )
    ]


def layout_findings(sample: Sequence[int], model: Sequence[int], source: str) -> list[Finding]:
    """Samples whose axes are in another order than the model's. sample, model: shapes without the batch axis."""
    ours, theirs = [n for n in sample if n != 1], [n for n in model if n != 1]
    if ours == theirs or sorted(ours) != sorted(theirs):
        return []
    axes = _transposition(ours, theirs)
    names = "channels first (NCHW)" if len(ours) == 3 and ours[0] == theirs[-1] else "in another order of axes"
    back = ", ".join(str(a + 1) for a in axes)
    return [
        Finding(
            "layout",
            SEVERE,
            f"samples of {source} are {list(sample)} and the model takes {list(model)}: the data are {names}",
            f"transpose them: x.transpose(0, {back})",
            {"sample": list(sample), "model": list(model)},
        )
    ]


def _transposition(ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """Axes of `ours` in the order of `theirs`; equal axes keep their order."""
    free = list(range(len(ours)))
    axes = []
    for n in theirs:
        axis = next(a for a in free if ours[a] == n)
        free.remove(axis)
        axes.append(axis)
    return axes


def _unreadable(observed: Observed, role: str) -> list[Finding]:
    if not observed.unreadable:
        return []
    count = len(observed.unreadable)
    return [
        Finding(
            "readable",
            SEVERE,
            f"{count} {role} samples cannot be read: {observed.unreadable[0]}",
            "repair or remove them",
            {"count": count},
        )
    ]


def _not_finite(observed: Observed, role: str) -> list[Finding]:
    bad = [i for i, s in enumerate(observed.samples) if not s.is_finite]
    if not bad:
        return []
    what = f"{len(bad)} {role} samples hold NaN or infinity, such as {observed.name(bad[0])}"
    return [Finding("range", SEVERE, what, "repair or remove them", {"count": len(bad)})]


def _range(observed: Observed, spec: InputSpec, role: str) -> list[Finding]:
    """Values that do not fit their own kind, or the scaling that is then applied to them."""
    low, high = float(observed.column("low").min()), float(observed.column("high").max())
    numbers = {"min": low, "max": high}
    if observed.kind == IMAGE:
        if 0 < high <= 1:
            what = f"no pixel of the {role} pictures is above 1: they were scaled to 0..1 before they were saved"
            # With nothing done to them they may be what a model for black and white takes.
            severity = WARNING if set(spec.std) == {1.0} else SEVERE
            return [Finding("range", severity, what, "save pictures with pixels 0..255", numbers)]
        return []
    scaled = (max(abs(low - m) for m in spec.mean), max(abs(high - m) for m in spec.mean))
    reach = max(scaled) / min(abs(s) for s in spec.std)
    is_pixel_scaling = min(spec.std) >= 50 and low >= -1 and high <= 1
    if is_pixel_scaling and high > low:
        what = (
            f"{role} values are {low:.3g}..{high:.3g} already and are divided by {min(spec.std):g} once more: the "
            f"model sees next to nothing (at most {reach:.2g})"
        )
        return [Finding("range", SEVERE, what, "leave --mean and --std out, or give pixels 0..255", numbers)]
    dtype = _dtype(observed)
    plain = set(spec.mean) == {0.0} and set(spec.std) == {1.0}
    if dtype == np.int8 and plain and low < 0:
        what = f"{role} samples are int8 {low:g}..{high:g}, which looks like quantized codes, and go in unscaled"
        fix = "--mean ZERO_POINT --std 1/SCALE of the codes, or give real numbers"
        return [Finding("dtype", WARNING, what, fix, {**numbers, "dtype": "int8"})]
    return []


def _dtype(observed: Observed) -> npt.DTypeLike:
    first: npt.NDArray[Any] = observed.dataset.sample(int(observed.indices[0]))
    return first.dtype


def _blank(observed: Observed, role: str) -> list[Finding]:
    limit = _limit(observed)
    blank = [i for i, s in enumerate(observed.samples) if s.is_finite and s.std < limit and s.size >= _MIN_VALUES]
    if not blank:
        return []
    share = len(blank) / len(observed.samples)
    return [
        Finding(
            "blank",
            SEVERE if share > _BLANK_IS_SEVERE and len(blank) > 1 else WARNING,
            f"{len(blank)} of {len(observed.samples)} {role} samples are blank (all values alike), such as "
            f"{observed.name(blank[0])}",
            "remove them, or find out why they are empty",
            {"count": len(blank), "share": share},
        )
    ]


def _limit(observed: Observed) -> float:
    """Below this spread a sample is blank: one gray level for pictures, nothing at all for numbers."""
    return _BLANK_STD if observed.kind == IMAGE else 1e-9 * max(1.0, float(np.abs(observed.column("high")).max()))


def _outliers(observed: Observed, role: str) -> list[Finding]:
    """Samples whose mean, spread or extremes are far from all others: more than 12 times the middle half's width (at
    least half of a sample's usual spread) from the median."""
    finite = [i for i, s in enumerate(observed.samples) if s.is_finite]
    if len(finite) < _MIN_FOR_OUTLIERS or observed.kind == IMAGE:
        return []
    worst: dict[int, float] = {}
    spread = 0.5 * float(np.quantile(observed.column("std")[finite], 0.5))
    for name in ("mean", "std", "low", "high"):
        values = observed.column(name)[finite]
        quarter, median, three_quarters = np.percentile(values, (25, 50, 75))
        # A width of zero (all minima are 0) says nothing about how far is far.
        width = max(float(three_quarters - quarter), spread, 1e-12)
        away = np.abs(values - median) / width
        for row in np.flatnonzero(away > _FAR_OUT):
            worst[finite[row]] = max(worst.get(finite[row], 0.0), float(away[row]))
    if not worst:
        return []
    position, distance = max(worst.items(), key=lambda x: x[1])
    sample = observed.samples[position]
    return [
        Finding(
            "outliers",
            WARNING,
            f"{len(worst)} of {len(finite)} {role} samples are far from all others, such as {observed.name(position)} "
            f"({sample.low:.3g}..{sample.high:.3g}, {distance:.0f} times the usual spread away)",
            "look at them; they widen the ranges of every layer",
            {"count": len(worst), "distance": distance},
        )
    ]


def _gray(observed: Observed, spec: InputSpec, role: str) -> list[Finding]:
    if observed.kind != IMAGE or spec.color == "gray":
        return []
    gray = sum(s.is_gray for s in observed.samples)
    share = gray / len(observed.samples)
    if share < _MANY_GRAY or len(observed.samples) < _MIN_FOR_OUTLIERS:
        return []
    what = f"{gray} of {len(observed.samples)} {role} pictures are gray, and the model takes {spec.color}"
    return [Finding("color", NOTE, what, "give color pictures if the model will see such", {"share": share})]


def _depth(observed: Observed, role: str) -> list[Finding]:
    """Pictures with more bits than the 8 that are read, here and by the agent."""
    files = observed.dataset.files
    if files is None or observed.kind != IMAGE:
        return []
    deep = [files[i] for i in observed.indices if bits_per_channel(files[i]) > _BITS_READ]
    if not deep:
        return []
    bits = bits_per_channel(deep[0])
    return [
        Finding(
            "depth",
            WARNING,
            f"{len(deep)} of {len(observed.indices)} {role} pictures have {bits} bits per channel, such as {deep[0]}: "
            f"they are read as {_BITS_READ} bit, the lower bits are lost",
            "save them as 8 bit with the contrast that the model needs, or give the numbers as tensors in an .npz",
            {"deep": len(deep), "looked_at": len(observed.indices)},
        )
    ]


def _turned(observed: Observed, role: str) -> list[Finding]:
    """Pictures with an EXIF tag that turns them: OpenCV obeys it, here and in the agent, and others do not."""
    files = observed.dataset.files
    if files is None or observed.kind != IMAGE:
        return []
    turned = [files[i] for i in observed.indices if exif_orientation(files[i]) != 1]
    if not turned:
        return []
    return [
        Finding(
            "orientation",
            WARNING,
            f"{len(turned)} of {len(observed.indices)} {role} pictures are turned by their EXIF tag, such as "
            f"{turned[0]}: they are read upright, here and on the device, and as they lie by TensorFlow and PIL",
            "turn the pixels themselves (mogrify -auto-orient), for the training, too, so that all read the same",
            {"turned": len(turned), "looked_at": len(observed.indices)},
        )
    ]
