"""Golden samples: a few inputs and what each variant answers, so that a device can tell whether its runtime computes
this model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.bundle.limits import MAX_GOLDEN_ARRAYS, MAX_GOLDEN_BYTES
from edgeloop.bundle.manifest import GOLDEN_DTYPES, GoldenArray, GoldenIndex
from edgeloop.errors import DataError

if TYPE_CHECKING:
    from edgeloop.affine import Array
    from edgeloop.contract import Contract
    from edgeloop.runtime import Session


@dataclass(frozen=True)
class Golden:
    """Samples and answers.

    inputs: {input name of the contract: array [n, ...]}, raw frames before the contract's scaling: uint8 images at
    the model's size in the contract's color order, or samples as numbers. outputs: {variant: {runtime family: one
    float32 array [n, ...] per model output, dequantized; GOLDEN_VALUES of a larger one}}. tolerance_steps: {runtime
    family: steps of the output}.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Mapping[str, Sequence[Array]]]
    tolerance_steps: Mapping[str, float]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))


def encode_golden(golden: Golden) -> tuple[GoldenIndex, bytes]:
    """The index for the manifest, and golden.npz. Raises DataError."""
    from edgeloop.bundle.npz import write_npz

    entries: list[GoldenArray] = []
    arrays: dict[str, Array] = {}
    for i, (name, array) in enumerate(golden.inputs.items()):
        arrays[f"input_{i}"] = array
        entries.append(GoldenArray(f"input_{i}", array.dtype.name, array.shape, input=name))
    for variant, families in golden.outputs.items():
        for family, outputs in families.items():
            for i, array in enumerate(outputs):
                name = f"output_{len(arrays) - len(golden.inputs)}"
                arrays[name] = array
                entries.append(
                    GoldenArray(name, array.dtype.name, array.shape, variant=variant, family=family, output=i)
                )
    _check(entries, golden)
    return GoldenIndex(tuple(entries), dict(golden.tolerance_steps)), write_npz(arrays)


def decode_golden(index: GoldenIndex, raw: bytes) -> Golden:
    """The inverse of `encode_golden`. Raises RefusedError."""
    from edgeloop.bundle.npz import read_npz

    arrays = read_npz(raw, index.arrays)
    inputs = {a.input: arrays[a.array] for a in index.arrays if a.input is not None}
    outputs: dict[str, dict[str, list[Array]]] = {}
    for a in sorted(index.arrays, key=lambda a: a.output or 0):
        if a.variant is not None and a.family is not None:
            outputs.setdefault(a.variant, {}).setdefault(a.family, []).append(arrays[a.array])
    return Golden(inputs, outputs, index.tolerance_steps)


def _check(entries: Sequence[GoldenArray], golden: Golden) -> None:
    if not golden.inputs:
        raise DataError("golden samples: no input")
    for entry in entries:
        what = f"golden samples: {entry.input if entry.input is not None else entry.variant!r}"
        if entry.dtype not in GOLDEN_DTYPES:
            raise DataError(f"{what}: dtype {entry.dtype} cannot be kept", hint=f"one of: {', '.join(GOLDEN_DTYPES)}")
        if not entry.shape or entry.shape[0] != golden.n or golden.n < 1:
            raise DataError(f"{what}: shape {entry.shape} is not that of {golden.n} samples")
        if entry.input is None and entry.dtype != "float32":
            raise DataError(f"{what}: expected outputs must be float32 (dequantized), not {entry.dtype}")
    if len(entries) > MAX_GOLDEN_ARRAYS or sum(e.data_bytes for e in entries) > MAX_GOLDEN_BYTES:
        raise DataError(f"golden samples: more than {MAX_GOLDEN_BYTES >> 20} MiB or {MAX_GOLDEN_ARRAYS} arrays")


@dataclass(frozen=True)
class GoldenCheck:
    """Whether a session computes what the bundle expects. `reason`: one line where it does not."""

    passed: bool
    worst_steps: float
    n: int
    reason: str = ""
    tolerance_steps: float = 0.0


def check_golden(session: Session, contract: Contract, golden: Golden, variant: str) -> GoldenCheck:
    """Run the golden samples of `variant` on an open session.

    Passed: at most one sample in eight lies outside the tolerance of the kernels that ran, and no sample changed a
    class that was clear. Raises RefusedError where the bundle has no answers of that variant, DataError or
    ConfigError where they do not fit.
    """
    from edgeloop.bundle.golden_run import check

    return check(session, contract, golden, variant)
