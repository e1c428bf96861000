"""Decoding of model outputs by the contract's output kind, the same code on host and device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OutputSpec
from edgeloop.errors import ConfigError
from edgeloop.postprocess.results import ClassScore, Result

Array = npt.NDArray[Any]


class ModelOutput(Protocol):
    """What is read of a tensor: `edgeloop.runtime.TensorInfo` fits."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> Affine: ...


Decoder = Callable[[Sequence[Array]], Result]


def compile_output(spec: OutputSpec, outputs: Sequence[ModelOutput], *, top_k: int = 3) -> Decoder:
    """A function raw outputs -> Result. Raises ConfigError when labels and outputs do not fit."""
    if spec.kind == "classification":
        return _classification(spec, outputs, top_k)
    return _raw(spec, outputs)


def _classification(spec: OutputSpec, outputs: Sequence[ModelOutput], top_k: int) -> Decoder:
    if len(outputs) > 1:
        return _with_others(spec, outputs, top_k)
    classes = int(np.prod(outputs[0].shape))
    if spec.labels and len(spec.labels) != classes:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model has {classes} outputs")
    labels = spec.labels or ("",) * classes
    affine = outputs[0].affine
    k = min(top_k, classes)
    if affine.is_quantized and classes <= _FEW_CLASSES:
        return _few_codes(labels, _Scores(affine), k)

    def decode(raw: Sequence[Array]) -> Result:
        # Quantized codes sort like the values they stand for. argmax takes the first of equals: ties go in class order.
        codes = raw[0].astype(np.float32).reshape(-1)
        best = []
        for _ in range(k):
            best.append(int(codes.argmax()))
            codes[best[-1]] = -np.inf
        scores = dequantize(raw[0].reshape(-1)[best], affine).tolist()
        return Result("classification", tuple([ClassScore(i, labels[i], s) for i, s in zip(best, scores, strict=True)]))

    return decode


def _with_others(spec: OutputSpec, outputs: Sequence[ModelOutput], top_k: int) -> Decoder:
    """A classification among several outputs: the contract's one is decoded, the others are numbers."""
    chosen = spec.index
    if chosen >= len(outputs):
        raise ConfigError(f"the contract decodes output {chosen} and the model has {len(outputs)}, counted from 0")
    classify = _classification(spec, [outputs[chosen]], top_k)
    others = [(i, output.affine) for i, output in enumerate(outputs) if i != chosen]

    def decode(raw: Sequence[Array]) -> Result:
        values = tuple([dequantize(raw[i], affine) for i, affine in others])
        return Result("classification", classify([raw[chosen]]).top, values)

    return decode


_FEW_CLASSES = 64  # up to here Python's sort beats numpy's calls


class _Scores(dict[int, float]):
    """Code -> dequantized score, filled as codes turn up."""

    def __init__(self, affine: Affine) -> None:
        self._affine = affine

    def __missing__(self, code: int) -> float:
        score = self[code] = float(dequantize([code], self._affine)[0])
        return score


def _few_codes(labels: Sequence[str], scores: _Scores, k: int) -> Decoder:
    ids = range(len(labels))

    def decode(raw: Sequence[Array]) -> Result:
        codes = raw[0].ravel().tolist()
        best = sorted(ids, key=codes.__getitem__, reverse=True)[:k]  # stable: ties go in class order
        return Result("classification", tuple([ClassScore(i, labels[i], scores[codes[i]]) for i in best]))

    return decode


def _raw(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    affines = [o.affine for o in outputs]

    def decode(raw: Sequence[Array]) -> Result:
        values = tuple(dequantize(codes, affine) for codes, affine in zip(raw, affines, strict=True))
        return Result(spec.kind, values=values)

    return decode
