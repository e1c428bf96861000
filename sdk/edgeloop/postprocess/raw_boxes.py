"""Detections from raw boxes and scores: what TFLite_Detection_PostProcess does ("regular" suppression), done here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import DetectionSettings
from edgeloop.errors import ConfigError
from edgeloop.postprocess.boxes import Floats, Ids, corners_by_anchors, corners_of
from edgeloop.postprocess.decoding import Array, ModelOutput
from edgeloop.postprocess.nms import suppress

Find = Callable[[Sequence[Array]], tuple[Floats, Ids, Floats]]
"""Raw outputs to corners (y0, x0, y1, x1) in fractions, class ids and scores, best first."""

CANDIDATES = 500
"""So many of the best go into the suppression: its time grows with their square."""


def raw_finder(
    spec: OutputSpec, settings: DetectionSettings, parts: Mapping[str, int], outputs: Sequence[ModelOutput]
) -> Find:
    """parts: which output is boxes and which scores, one and the same where they are joined. Raises ConfigError."""
    boxes_at, scores_at = parts["boxes"], parts["scores"]
    if settings.joined == "no":
        take, n, classes = _apart(parts, outputs)
    else:
        take, n, classes = _joined(settings, boxes_at, outputs[boxes_at])
    anchors = np.asarray(settings.anchors, np.float32)
    if len(anchors) and len(anchors) != n:
        raise ConfigError(f"the contract has {len(anchors)} anchors and the model {n} boxes")
    classes -= settings.background
    if spec.labels and len(spec.labels) != classes:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model scores {classes} classes")
    hits = _Hits(settings, outputs[scores_at].affine)
    affine = outputs[boxes_at].affine

    def find(raw: Sequence[Array]) -> tuple[Floats, Ids, Floats]:
        numbers, table, certainty = take(raw)
        rows, kinds, scores = hits(table, certainty)
        boxes = dequantize(numbers[rows], affine)
        boxes = corners_by_anchors(boxes, anchors[rows], settings) if len(anchors) else corners_of(boxes, settings)
        finite = np.isfinite(boxes).all(axis=1)
        boxes, kinds, scores = boxes[finite], kinds[finite], scores[finite]
        kept = suppress(boxes, scores, kinds, settings.iou, settings.max_detections)
        return boxes[kept], kinds[kept], scores[kept]

    return find


Take = Callable[[Sequence[Array]], tuple[Array, Array, Array | None]]
"""Raw outputs to boxes [n, 4], scores [classes, n], and how certain it is that there is anything [n], as codes."""


def _apart(parts: Mapping[str, int], outputs: Sequence[ModelOutput]) -> tuple[Take, int, int]:
    """(take, n, classes) of boxes [.., n, 4] and scores [.., n, classes]."""
    boxes_at, scores_at = parts["boxes"], parts["scores"]
    boxes, scores = outputs[boxes_at].shape, outputs[scores_at].shape
    n = math.prod(boxes[:-1])
    classes = math.prod(scores) // max(n, 1)
    if not boxes or boxes[-1] != 4 or classes < 1 or math.prod(scores) != n * classes:
        raise ConfigError(f"boxes {list(boxes)} and scores {list(scores)} do not fit: [1, n, 4] and [1, n, classes]")
    return lambda raw: (raw[boxes_at].reshape(n, 4), raw[scores_at].reshape(n, classes).T, None), n, classes


def _joined(settings: DetectionSettings, at: int, output: ModelOutput) -> tuple[Take, int, int]:
    """(take, n, classes) of one output with 4 numbers, maybe a certainty, and the classes' scores for each box."""
    shape = [size for size in output.shape if size != 1]
    first = 5 if settings.objectness else 4
    by_rows = settings.joined == "rows"
    n, width = (shape if by_rows else shape[::-1]) if len(shape) == 2 else (0, 0)
    if width <= first:
        raise ConfigError(
            f"joined boxes and scores are [1, {'n, 4 + classes' if by_rows else '4 + classes, n'}], and output "
            f"{output.name!r} is {list(output.shape)}",
            hint='joined = "rows" or "columns"; objectness = true where a certainty stands behind the box',
        )

    def take(raw: Sequence[Array]) -> tuple[Array, Array, Array | None]:
        table = raw[at].reshape(n, width).T if by_rows else raw[at].reshape(width, n)
        return table[:4].T, table[first:], table[4] if settings.objectness else None

    return take, n, width - first


class _Hits:
    """Scores that reach the threshold: (box, class, score) of the best CANDIDATES."""

    def __init__(self, settings: DetectionSettings, affine: Affine) -> None:
        self._activation, self._threshold = settings.activation, np.float32(settings.threshold)
        self._affine, self._behind = affine, int(settings.background)
        self._least = None if self._activation == "softmax" else _least_code(settings, affine)

    def __call__(self, table: Array, certainty: Array | None) -> tuple[Ids, Ids, Floats]:
        """See Take. A certainty is at most 1: with it no score gets larger."""
        if self._least is None:
            values = _activated(dequantize(table, self._affine), self._activation)
            kinds, rows = _where(values, self._threshold)  # NaN reaches nothing
            found = values[kinds, rows]
        else:  # nearly all fall here, as they come from the model
            kinds, rows = _where(table, self._least)
            found = _activated(dequantize(table[kinds, rows], self._affine), self._activation)
        if certainty is not None:
            found = found * _activated(dequantize(certainty[rows], self._affine), self._activation)
        good = (found >= self._threshold) & (kinds >= self._behind)
        rows, kinds, found = rows[good], kinds[good] - self._behind, found[good]
        if len(found) > CANDIDATES:
            best = np.argsort(-found, kind="stable")[:CANDIDATES]
            rows, kinds, found = rows[best], kinds[best], found[best]
        return rows, kinds, found


def _where(table: Array, least: float | np.float32) -> tuple[Ids, Ids]:
    """Places [class, box] of what is at least so much, box by box; searched in the order of memory."""
    if table.flags.c_contiguous:
        kinds, rows = np.divmod(np.flatnonzero(table.reshape(-1) >= least), table.shape[1])
        order = np.lexsort((kinds, rows))
        return kinds[order], rows[order]
    rows, kinds = np.divmod(np.flatnonzero(np.ascontiguousarray(table.T).reshape(-1) >= least), table.shape[0])
    return kinds, rows


def _least_code(settings: DetectionSettings, affine: Affine) -> float:
    """What the model must at least give for a score to reach the threshold, rounded down."""
    value = settings.threshold
    if settings.activation == "sigmoid":
        value = min(max(value, 1e-9), 1 - 1e-9)
        value = math.log(value / (1 - value)) - 1e-3
    return math.floor(value / affine.scale + affine.zero_point - 1e-3) if affine.is_quantized else value - 1e-6


def _activated(values: Floats, activation: str) -> Floats:
    """softmax: over the first axis, the classes."""
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-values)), np.float32)
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=0, keepdims=True))
        return np.asarray(powers / powers.sum(axis=0, keepdims=True), np.float32)
    return values
