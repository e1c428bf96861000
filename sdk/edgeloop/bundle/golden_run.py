"""Golden samples at work: run them, and say whether the answers are the expected ones. docs/bundle.md has the
measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, dequantize
from edgeloop.bundle.limits import GOLDEN_VALUES
from edgeloop.errors import ConfigError, DataError, RefusedError
from edgeloop.preprocess import compile_input, compile_inputs
from edgeloop.runtime import TensorInfo, runtime_info

if TYPE_CHECKING:
    from edgeloop.affine import Array
    from edgeloop.bundle.golden import Golden, GoldenCheck
    from edgeloop.contract import Contract, InputSpec
    from edgeloop.runtime import Session

Floats = npt.NDArray[np.float32]

XNNPACK_KERNELS = "litert"
OTHER_KERNELS = "tflite-runtime"
UNKNOWN_TOLERANCE_STEPS = 8.0
"""Where a bundle does not say: what most int8 networks stay within on other kernels."""
FLOAT_STEPS = 255
"""An output without quantization is compared in 1/255 of the range that its expected values span."""
LABELS = -1.0
_LEAST_STEP = 1e-6


@dataclass(frozen=True)
class Differences:
    """steps: [n] worst difference of each sample in output steps. wrong_class: samples whose clear class changed."""

    steps: npt.NDArray[np.float64]
    wrong_class: tuple[int, ...]


def kernels_of(session: Session) -> str:
    """Whose rounding this session has: "litert" for LiteRT with XNNPACK, which rounds alike on every CPU (0 to 6
    steps apart between x86-64 and aarch64); "tflite-runtime" for all else: the built-in kernels and hardware, which
    differ by machine."""
    is_xnnpack = session.ran_on.ran == "xnnpack" and runtime_info().family == XNNPACK_KERNELS
    return XNNPACK_KERNELS if is_xnnpack else OTHER_KERNELS


def run_samples(session: Session, contract: Contract, inputs: Sequence[Array]) -> list[Floats]:
    """Every output, float32 [n, ...] dequantized and `thinned`. inputs: one array [n, ...] per input of the contract,
    as Golden has them.

    Raises DataError or ConfigError where samples and model do not fit.
    """
    specs = contract.inputs
    if not len(specs) == len(inputs) == len(session.inputs):
        raise DataError(f"golden samples for {len(inputs)} inputs, the model has {len(session.inputs)}")
    prepare = compile_inputs(specs, session.inputs)
    frames = [(spec.name, array, _frames_of(spec)) for spec, array in zip(specs, inputs, strict=True)]
    rows: list[list[Floats]] = []
    for sample in range(len(inputs[0])):
        for i, ready in enumerate(prepare({name: as_frame(array[sample]) for name, array, as_frame in frames})):
            session.set_input(i, ready)
        session.invoke()
        rows.append([dequantize(thinned(_without_batch(session.output(i), info.shape)), info.affine)
                     for i, info in enumerate(session.outputs)])  # fmt: skip
    return [np.stack([row[i] for row in rows]) for i in range(len(session.outputs))]


def thinned(output: Array) -> Array:
    """One sample's output; GOLDEN_VALUES of it, flat, where it has more."""
    if output.size <= GOLDEN_VALUES:
        return output
    return output.reshape(-1)[np.arange(GOLDEN_VALUES) * output.size // GOLDEN_VALUES]


def output_scales(session: Session) -> list[float]:
    """The quantization scale of each output; 0: a float output; LABELS: integers that are no quantized values."""
    return [
        LABELS if not info.affine.is_quantized and info.dtype.kind in "iub" else info.affine.scale
        for info in session.outputs
    ]


def output_steps(scales: Sequence[float], expected: Sequence[Array]) -> list[float]:
    """The step of each output: its scale, else 1/255 of the range of its expected values. LABELS stay so."""
    spans = [float(np.ptp(array)) / FLOAT_STEPS if array.size else 0.0 for array in expected]
    return [scale or max(span, _LEAST_STEP) for scale, span in zip(scales, spans, strict=True)]


def compare(
    expected: Sequence[Array],
    actual: Sequence[Array],
    steps: Sequence[float],
    tolerance_steps: float,
    classes: int | None = None,
) -> Differences:
    """Sample by sample. `classes`: which output is a classification, if any; its class counts as changed where the
    expected one led by more than twice the tolerance, so that differences within it could not have changed it."""
    worst = np.zeros(len(expected[0]))
    for want, have, step in zip(expected, actual, steps, strict=True):
        worst = np.maximum(worst, _differences(want.reshape(len(want), -1), have.reshape(len(want), -1), step))
    if classes is None or expected[classes][0].size < 2:
        return Differences(worst, ())
    want, have = (a[classes].reshape(len(worst), -1) for a in (expected, actual))
    best = np.partition(want, -2, axis=1)
    is_clear = (best[:, -1] - best[:, -2]) / steps[classes] > 2 * tolerance_steps
    changed = is_clear & (want.argmax(axis=1) != have.argmax(axis=1))
    return Differences(worst, tuple(int(i) for i in np.flatnonzero(changed)))


def _differences(want: Array, have: Array, step: float) -> npt.NDArray[np.float64]:
    """[n] steps. LABELS (a map of class ids) have no distance: what counts is the share of them that differ."""
    if step == LABELS:
        share: npt.NDArray[np.float64] = (want != have).mean(axis=1) if want.size else np.zeros(len(want))
        return share * FLOAT_STEPS
    difference = np.abs(want.astype(np.float64) - have) / step
    worst: npt.NDArray[np.float64] = np.nan_to_num(difference, nan=np.inf).max(axis=1, initial=0.0)
    return worst


def check(session: Session, contract: Contract, golden: Golden, variant: str) -> GoldenCheck:
    """See `edgeloop.bundle.golden.check_golden`."""
    from edgeloop.bundle.golden import GoldenCheck

    answers = golden.outputs.get(variant)
    if not answers:
        raise RefusedError(f"the bundle has no golden outputs for variant {variant}")
    kernels = kernels_of(session)
    widest = max(golden.tolerance_steps.values(), default=UNKNOWN_TOLERANCE_STEPS)
    tolerance = golden.tolerance_steps.get(kernels, widest) if kernels in answers else widest
    expected = answers.get(kernels) or next(iter(answers.values()))
    actual = run_samples(session, contract, list(golden.inputs.values()))
    if [a.shape for a in actual] != [e.shape for e in expected]:
        given, wanted = ([list(array.shape[1:]) for array in group] for group in (actual, expected))
        return GoldenCheck(False, float("inf"), golden.n, f"outputs have shapes {given}, not {wanted}", tolerance)
    steps = output_steps(output_scales(session), expected)
    classes = classes_of(contract, len(expected))
    found = compare(expected, actual, steps, tolerance, classes)
    outside = np.flatnonzero(found.steps > tolerance)
    worst = float(found.steps.max(initial=0.0))
    reason = ""
    if found.wrong_class and classes is not None:
        reason = _changed_class(found.wrong_class, expected[classes], actual[classes], contract)
    elif len(outside) > allowed_outside(golden.n):
        reason = f"{len(outside)} of {golden.n} samples are over {tolerance:g} output steps off, the worst {worst:g}"
    return GoldenCheck(not reason, worst, golden.n, reason, tolerance)


def classes_of(contract: Contract, outputs: int) -> int | None:
    """Which of so many outputs holds class scores; None where none does. Raises ConfigError."""
    spec = contract.output
    if spec.kind != "classification":
        return None
    if spec.index >= outputs:
        raise ConfigError(f"the contract decodes output {spec.index} and the model has {outputs}, counted from 0")
    return spec.index


def allowed_outside(n: int) -> int:
    """Samples of n that may lie outside the tolerance: rounding may tip one, a runtime that computes something else
    tips most.
    """
    return max(1, n // 8) if n >= 4 else 0


def _changed_class(samples: Sequence[int], expected: Array, actual: Array, contract: Contract) -> str:
    first = samples[0]
    names = []
    for array in (actual, expected):
        index = int(array[first].argmax())
        labels = contract.output.labels
        names.append(labels[index] if index < len(labels) else str(index))
    count = f"{len(samples)} of {len(expected)} samples change class"
    return f"{count}: sample {first} gives {names[0]!r}, not {names[1]!r}"


def _frames_of(spec: InputSpec) -> Callable[[Array], Array]:
    """From a golden sample (the contract's color order) to a frame as a camera or `cv2.imread` gives it (BGR)."""
    if spec.kind == "image" and spec.color == "rgb":
        return lambda sample: np.ascontiguousarray(sample[..., ::-1])
    return lambda sample: sample


def _without_batch(array: Array, shape: tuple[int, ...]) -> Array:
    return array[0] if shape[:1] == (1,) and array.ndim else array


def raw_sample(spec: InputSpec, frame: Array) -> Array:
    """A frame as Golden keeps it: an image uint8 [h, w, c] at the model's size in the contract's color order; numbers
    in a type that golden.npz has. Raises DataError."""
    if spec.kind != "image":
        return _plain_numbers(frame)
    assert spec.sample_shape is not None  # an image has a size
    as_pixels = TensorInfo(spec.name, 0, (1, *spec.sample_shape), np.dtype(np.uint8), Affine())
    pixels: Array = compile_input(replace(spec, mean=(0.0,), std=(1.0,)), as_pixels)(frame)[0].copy()
    return pixels


def _plain_numbers(frame: Array) -> Array:
    if frame.dtype.kind == "f":
        return frame.astype(np.float32)
    if frame.dtype.kind == "b":
        return frame.astype(np.uint8)
    if frame.dtype.kind in "ui" and frame.dtype.itemsize >= 4:
        return frame.astype(np.int64 if frame.dtype.itemsize == 8 or frame.dtype.kind == "u" else np.int32)
    return frame


def as_named(contract: Contract, frame: Array | Mapping[str, Array]) -> list[Array]:
    """One frame per input, in the contract's order. Raises DataError."""
    if not isinstance(frame, Mapping):
        if len(contract.inputs) != 1:
            raise DataError(f"a golden sample needs {len(contract.inputs)} inputs, by name")
        return [frame]
    missing = [spec.name for spec in contract.inputs if spec.name not in frame]
    if missing:
        raise DataError(f"a golden sample has no input {missing[0]!r}")
    return [frame[spec.name] for spec in contract.inputs]
