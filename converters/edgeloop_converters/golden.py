"""Golden samples: a few evaluation samples and what the exported file answers, for the self-test on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, dequantize
from edgeloop.bundle import Golden
from edgeloop.contract import CHANNELS, Contract, InputSpec
from edgeloop.errors import DelegateError
from edgeloop.preprocess import compile_input
from edgeloop.runtime import Session, TensorInfo, open_session, runtime_info
from edgeloop_converters.data import Dataset, pick

Array = npt.NDArray[Any]

SAMPLES = 8
MAX_INPUT_BYTES = 1 << 20
"""Golden inputs hardly compress: they must not outweigh a small model."""
MIN_TOLERANCE_STEPS = 2.0
OTHER_RUNTIME_FACTOR = 4.0
_DTYPES: Mapping[str, np.dtype[Any]] = {"f": np.dtype(np.float32), "b": np.dtype(np.uint8)}


def golden_samples(models: Mapping[str, bytes], contract: Contract, dataset: Dataset, seed: int = 0) -> Golden | None:
    """Up to SAMPLES samples of `dataset`, evenly over its classes, and the answers of every variant in `models`.

    The tolerance is measured: twice the largest difference between the runtime's own two sets of kernels (XNNPACK and
    builtin) on these samples, in steps of the output; for the other runtime family OTHER_RUNTIME_FACTOR times that.
    None where one sample alone is larger than MAX_INPUT_BYTES.
    """
    spec = contract.inputs[0]
    frames = []
    chosen = pick(dataset, SAMPLES, seed)
    with open_session(next(iter(models.values()))) as session:
        raw_of = _raw(spec, session.inputs[0])
    first = raw_of(dataset.sample(int(chosen[0])))
    count = min(len(chosen), MAX_INPUT_BYTES // max(1, first.nbytes))
    if count == 0:
        return None
    frames = [dataset.sample(int(i)) for i in chosen[:count]]
    inputs = np.stack([raw_of(frame) for frame in frames])
    outputs: dict[str, dict[str, Sequence[Array]]] = {}
    steps = MIN_TOLERANCE_STEPS
    family = runtime_info().family
    for name, model in models.items():
        answers = _answers(model, "xnnpack", spec, frames)
        assert answers is not None
        outputs[name] = {family: answers.values}
        other = _answers(model, "cpu", spec, frames)
        if other is not None:
            steps = max(steps, 2 * _worst_steps(answers, other))
    tolerance = {f: steps if f == family else OTHER_RUNTIME_FACTOR * steps for f in ("litert", "tflite-runtime")}
    return Golden({spec.name or "input": inputs}, outputs, tolerance)


def _raw(spec: InputSpec, tensor: TensorInfo) -> Any:
    """A function frame -> the sample before the contract's scaling, as `Golden.inputs` keeps it."""
    if spec.kind == "image" and spec.size is not None:
        shape = (1, *spec.size, CHANNELS[spec.color])
        pixels = compile_input(
            replace(spec, mean=(0.0,), std=(1.0,)),
            replace(tensor, shape=shape, dtype=np.dtype(np.uint8), affine=Affine()),
        )
        return lambda frame: pixels(frame)[0].copy()
    sample_shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape

    def sample(frame: Array) -> Array:
        kept: Array = frame.astype(_DTYPES.get(frame.dtype.kind, frame.dtype)).reshape(sample_shape)
        return kept

    return sample


@dataclass(frozen=True)
class _Answers:
    """values: float32 [n, ...] per output; scales: the output's step, 0 where it is not quantized."""

    values: list[Array]
    scales: list[float]


def _answers(model: bytes, delegate: str, spec: InputSpec, frames: Sequence[Array]) -> _Answers | None:
    try:
        session = open_session(model, delegate=delegate)
    except DelegateError:
        return None
    with session:
        prepare = compile_input(spec, session.inputs[0])
        rows = [_one(session, prepare(frame)) for frame in frames]
        return _Answers(
            [np.stack([row[i] for row in rows]) for i in range(len(session.outputs))],
            [info.affine.scale for info in session.outputs],
        )


def _one(session: Session, sample: Array) -> list[Array]:
    session.set_input(0, sample)
    session.invoke()
    return [
        dequantize(_batchless(session.output(i), info.shape), info.affine) for i, info in enumerate(session.outputs)
    ]


def _batchless(array: Array, shape: tuple[int, ...]) -> Array:
    return array[0] if shape[:1] == (1,) and array.ndim > 0 else array


def _worst_steps(one: _Answers, other: _Answers) -> float:
    worst = 0.0
    for a, b, scale in zip(one.values, other.values, one.scales, strict=True):
        if scale > 0 and a.shape == b.shape:
            worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / scale)
    return float(np.ceil(worst))
