"""Choose golden samples and measure the tolerance they need. Host only: it runs the models on both of LiteRT's kernel
sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeloop.bundle.golden import Golden
from edgeloop.bundle.golden_run import (
    LABELS,
    OTHER_KERNELS,
    UNKNOWN_TOLERANCE_STEPS,
    XNNPACK_KERNELS,
    as_named,
    classes_of,
    compare,
    kernels_of,
    output_scales,
    output_steps,
    raw_sample,
    run_samples,
)
from edgeloop.errors import DataError
from edgeloop.runtime import open_session

if TYPE_CHECKING:
    from edgeloop.affine import Array
    from edgeloop.contract import Contract

Outputs = list[npt.NDArray[np.float32]]

SAMPLES = 8
CANDIDATES = 32
LARGE_MODEL_BYTES = 8 << 20
"""For a larger model as many candidates as samples: the built-in kernels take 0.4 s for one answer of a ResNet-50."""
MIN_SAMPLES = 4
MIN_SAMPLES_BYTES = 1 << 20
CANDIDATES_BYTES = 64 << 20
FLOOR_STEPS = 2.0
"""Nothing is held to less: a last bit may always fall the other way."""
XNNPACK_FACTOR = 0.5
OTHER_KERNELS_FACTOR = 3.0
"""Tolerance per step that the two kernel sets are apart: measured on nine models, x86-64 and aarch64
(docs/bundle.md).
"""
SHARE_OF_MODEL = 0.25
"""Golden samples hardly compress: they get this share of the largest model's size, but at least MIN_SAMPLES where
those take no more than MIN_SAMPLES_BYTES, and one in any case."""
_SATURATED_AT_STEPS = 64.0
_NOTHING = 0.01  # float kernels differ by this little


@dataclass(frozen=True)
class _Answers:
    """One variant on all candidates: {kernels: outputs [n, ...]}, [n] disagreement of the kernels and distance from
    saturation, both in output steps, and the class of each sample (0 where there are none)."""

    by_kernels: dict[str, Outputs]
    scales: list[float]
    disagreement: npt.NDArray[np.float64]
    headroom: npt.NDArray[np.float64]
    classes: npt.NDArray[np.intp]


def make_golden(
    contract: Contract,
    frames: Iterable[Array | Mapping[str, Array]],
    models: Mapping[str, bytes | Path],
    *,
    count: int = SAMPLES,
) -> Golden:
    """Golden samples for `models` (by variant name) out of `frames`, raw as `compile_input` takes them; by input name
    if several.

    At most CANDIDATES frames are looked at. Chosen are those that say most about a runtime: answers away from
    saturation, on which XNNPACK and the built-in kernels agree, of different classes. Tolerances come from how far
    the two are apart on them. Raises DataError: no frame, frames that do not fit, a model that answers NaN.
    """
    largest = max((len(m) if isinstance(m, bytes) else m.stat().st_size for m in models.values()), default=0)
    inputs = _inputs(contract, frames, count if largest > LARGE_MODEL_BYTES else max(count, CANDIDATES))
    answers = {name: _run(model, contract, inputs) for name, model in models.items()}
    if not answers:
        raise DataError("golden samples: no model to run them on")
    chosen = _choose(list(answers.values()), _affordable(inputs, largest, count))
    apart = max(_worst_apart(a, chosen) for a in answers.values())
    both = all(len(a.by_kernels) == 2 for a in answers.values())
    loose = FLOOR_STEPS + OTHER_KERNELS_FACTOR * apart if both else UNKNOWN_TOLERANCE_STEPS
    return Golden(
        {spec.name: array[chosen] for spec, array in zip(contract.inputs, inputs, strict=True)},
        {name: {k: [o[chosen] for o in outputs] for k, outputs in a.by_kernels.items()} for name, a in answers.items()},
        {XNNPACK_KERNELS: _whole(FLOOR_STEPS + XNNPACK_FACTOR * apart), OTHER_KERNELS: _whole(loose)},
    )


def _whole(steps: float) -> float:
    return float(np.ceil(steps - _NOTHING))


def _inputs(contract: Contract, frames: Iterable[Array | Mapping[str, Array]], most: int) -> list[Array]:
    rows: list[list[Array]] = []
    for sample in islice(frames, most):
        pairs = zip(contract.inputs, as_named(contract, sample), strict=True)
        rows.append([raw_sample(spec, frame) for spec, frame in pairs])
        if sum(array.nbytes for array in rows[0]) * (len(rows) + 1) > CANDIDATES_BYTES:
            break
    if not rows:
        raise DataError("golden samples: there is no frame to choose from")
    columns = list(zip(*rows, strict=True))
    for spec, column in zip(contract.inputs, columns, strict=True):
        if len({array.shape for array in column}) != 1:
            raise DataError(f"golden samples: frames for input {spec.name!r} have different shapes")
    return [np.stack(column) for column in columns]


def _run(model: bytes | Path, contract: Contract, inputs: Sequence[Array]) -> _Answers:
    by_kernels: dict[str, Outputs] = {}
    scales: list[float] = []
    for delegate in ("xnnpack", "cpu"):
        with open_session(model, delegate=delegate) as session:
            outputs = run_samples(session, contract, inputs)
            if not all(np.isfinite(o).all() for o in outputs):
                raise DataError("golden samples: the model answers NaN or infinity")
            by_kernels.setdefault(kernels_of(session), outputs)
            scales = output_scales(session)
    one, other = _pair(by_kernels)
    n = len(inputs[0])
    steps = output_steps(scales, one)
    headroom = np.zeros(n)
    for array, step in zip(one, steps, strict=True):
        flat = array.reshape(n, -1)
        if step == LABELS:
            continue
        room = np.minimum(flat - flat.min(initial=np.inf), flat.max(initial=-np.inf) - flat) / step
        headroom = np.maximum(headroom, room.max(axis=1, initial=0.0))
    disagreement = compare(one, other, steps, 0.0).steps
    of_classes = classes_of(contract, len(one))
    scores = None if of_classes is None else one[of_classes].reshape(n, -1)
    classes = np.zeros(n, np.intp) if scores is None or scores.shape[1] < 2 else scores.argmax(axis=1)
    return _Answers(by_kernels, scales, disagreement, headroom, classes)


def _pair(by_kernels: Mapping[str, Outputs]) -> tuple[Outputs, Outputs]:
    """The answers of both kernel sets; twice the same where this machine has one."""
    groups = list(by_kernels.values())
    return groups[0], groups[-1]


def _worst_apart(answers: _Answers, chosen: npt.NDArray[np.intp]) -> float:
    one, other = ([array[chosen] for array in group] for group in _pair(answers.by_kernels))
    return float(compare(one, other, output_steps(answers.scales, one), 0.0).steps.max())


def _choose(answers: Sequence[_Answers], count: int) -> npt.NDArray[np.intp]:
    """Indices of the samples to keep, in their first order: of the better half, round robin over the classes."""
    score = np.zeros(len(answers[0].classes))
    for a in answers:
        score += (FLOOR_STEPS + a.disagreement) / (1.0 + np.minimum(a.headroom, _SATURATED_AT_STEPS))
    order = np.argsort(score, kind="stable")
    better = order[: max(count, len(order) // 2)]
    taken: dict[int, int] = {}
    ranked = []
    for position, index in enumerate(better):
        kind = int(answers[0].classes[index])
        ranked.append((taken.get(kind, 0), position, int(index)))
        taken[kind] = taken.get(kind, 0) + 1
    return np.array(sorted(index for _, _, index in sorted(ranked)[:count]), dtype=np.intp)


def _affordable(inputs: Sequence[Array], largest_model_bytes: int, count: int) -> int:
    n = len(inputs[0])
    sample_bytes = max(1, sum(array.nbytes for array in inputs) // n)
    least = MIN_SAMPLES if MIN_SAMPLES * sample_bytes <= MIN_SAMPLES_BYTES else 1
    return min(count, n, max(least, int(SHARE_OF_MODEL * largest_model_bytes) // sample_bytes))
