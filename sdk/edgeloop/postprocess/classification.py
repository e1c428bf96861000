"""The best classes of a classification, smoothed over time where the contract says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import ClassificationSettings
from edgeloop.errors import ConfigError
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, other_values
from edgeloop.postprocess.results import ClassScore, Result

Best = Callable[[Array], tuple[ClassScore, ...]]
_FEW_CLASSES = 64  # up to here Python's sort beats numpy's calls


def classification(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """The contract's output is decoded, any others are numbers. Ties go in class order."""
    settings, chosen = spec.settings, spec.index
    assert isinstance(settings, ClassificationSettings)
    output = outputs[chosen]
    classes = int(np.prod(output.shape))
    if spec.labels and len(spec.labels) != classes:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model has {classes} outputs")
    labels = spec.labels or ("",) * classes
    affine, k = output.affine, min(settings.top_k, classes)
    best: Best
    if settings.smoothing > 1:
        best = _smoothed(labels, affine, k, settings.smoothing)
    elif affine.is_quantized and classes <= _FEW_CLASSES:
        best = _of_few_codes(labels, _Scores(affine), k)
    else:
        best = _of_many(labels, affine, k)
    if settings.threshold is not None:
        best = _above(best, settings.threshold)
    if len(outputs) == 1:
        return lambda raw, _seen=NOTHING_SEEN: Result("classification", best(raw[0]))
    others = other_values(outputs, (chosen,))

    def decode(raw: Sequence[Array], _seen: Seen = NOTHING_SEEN) -> Result:
        return Result("classification", best(raw[chosen]), others(raw))

    return decode


def _of_many(labels: Sequence[str], affine: Affine, k: int) -> Best:
    def best(raw: Array) -> tuple[ClassScore, ...]:
        # Quantized codes sort like the values they stand for. argmax takes the first of equals: ties go in class order.
        codes = raw.astype(np.float32).reshape(-1)
        first = []
        for _ in range(k):
            first.append(int(codes.argmax()))
            codes[first[-1]] = -np.inf
        scores = dequantize(raw.reshape(-1)[first], affine).tolist()
        return tuple([ClassScore(i, labels[i], s) for i, s in zip(first, scores, strict=True)])

    return best


class _Scores(dict[int, float]):
    """Code -> dequantized score, filled as codes turn up."""

    def __init__(self, affine: Affine) -> None:
        self._affine = affine

    def __missing__(self, code: int) -> float:
        score = self[code] = float(dequantize([code], self._affine)[0])
        return score


def _of_few_codes(labels: Sequence[str], scores: _Scores, k: int) -> Best:
    ids = range(len(labels))

    def best(raw: Array) -> tuple[ClassScore, ...]:
        codes = raw.ravel().tolist()
        first = sorted(ids, key=codes.__getitem__, reverse=True)[:k]  # stable: ties go in class order
        return tuple([ClassScore(i, labels[i], scores[codes[i]]) for i in first])

    return best


def _smoothed(labels: Sequence[str], affine: Affine, k: int, count: int) -> Best:
    """Mean scores over the last `count` samples, of fewer in the beginning: a keyword is heard in several windows, a
    click in one. Samples with NaN or infinity are left out of the mean, and answered as they are."""
    window: deque[Array] = deque(maxlen=count)
    plain = _of_many(labels, Affine(), k)

    def best(raw: Array) -> tuple[ClassScore, ...]:
        scores = dequantize(raw, affine)
        if not np.isfinite(scores).all():
            return plain(scores)
        window.append(scores.copy())  # outputs may lie in the interpreter's own memory
        return plain(np.asarray(np.mean(window, axis=0, dtype=np.float32)))

    return best


def _above(best: Best, threshold: float) -> Best:
    return lambda raw: tuple([each for each in best(raw) if each.score >= threshold])
