"""Decoding of model outputs by the contract's output kind, the same code on host and device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OutputSpec
from edgeloop.errors import ConfigError

Array = npt.NDArray[Any]


class ModelOutput(Protocol):
    """What is read of a tensor: `edgeloop.runtime.TensorInfo` fits."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> Affine: ...


class ClassScore(NamedTuple):  # a tuple: a frozen dataclass takes three times as long to make, at every inference
    """One class of a classification. `score` is the model's dequantized output for it."""

    class_id: int
    label: str
    score: float


@dataclass(frozen=True)
class Result:
    """A decoded inference. `top` is filled for classification, best first; `values` for raw outputs (float32)."""

    kind: str
    top: tuple[ClassScore, ...] = ()
    values: tuple[npt.NDArray[np.float32], ...] = ()

    @property
    def label(self) -> str:
        """Label (or class number) of the best class; empty when this is not a classification."""
        if not self.top:
            return ""
        return self.top[0].label or str(self.top[0].class_id)


Decoder = Callable[[Sequence[Array]], Result]


def compile_output(spec: OutputSpec, outputs: Sequence[ModelOutput], *, top_k: int = 3) -> Decoder:
    """A function raw outputs -> Result. Raises ConfigError when labels and outputs do not fit."""
    if spec.kind == "classification":
        return _classification(spec, outputs, top_k)
    return _raw(spec, outputs)


def _classification(spec: OutputSpec, outputs: Sequence[ModelOutput], top_k: int) -> Decoder:
    if len(outputs) != 1:
        raise ConfigError(f"a classification has one output, this model has {len(outputs)}")
    classes = int(np.prod(outputs[0].shape))
    if spec.labels and len(spec.labels) != classes:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model has {classes} outputs")
    labels = spec.labels or ("",) * classes
    affine = outputs[0].affine
    scale, zero_point = (float(np.float32(affine.scale)), affine.zero_point) if affine.is_quantized else (1.0, 0)
    k = min(top_k, classes)

    def decode(raw: Sequence[Array]) -> Result:
        # Quantized codes sort like the values they stand for. argmax takes the first of equals: ties go in class order.
        codes = raw[0].astype(np.float32).reshape(-1)
        top = []
        for _ in range(k):
            best = int(codes.argmax())
            # Exact in double precision and then rounded, so this is what `dequantize` gives.
            score = float(np.float32((codes.item(best) - zero_point) * scale))
            top.append(ClassScore(best, labels[best], score))
            codes[best] = -np.inf
        return Result("classification", tuple(top))

    return decode


def _raw(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    affines = [o.affine for o in outputs]

    def decode(raw: Sequence[Array]) -> Result:
        values = tuple(dequantize(codes, affine) for codes, affine in zip(raw, affines, strict=True))
        return Result(spec.kind, values=values)

    return decode
