"""Objects and their boxes, from a model that ends in TFLite_Detection_PostProcess or from raw boxes and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import DetectionSettings, Settings
from edgeloop.errors import ConfigError
from edgeloop.geometry import Placement
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, other_values
from edgeloop.postprocess.nms import suppress
from edgeloop.postprocess.results import Box, Detection, Result

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]

CANDIDATES = 500
"""So many of the best go into the suppression: its time grows with their square."""
_LOG_MAX = 30.0  # a side of e^30 anchors is wrong already, and finite
_HINT = "say boxes, scores, and classes and count where the model gives them, in [output] of the contract, by name"


def detection(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Best first, in source pixels, cut to the picture. Raises ConfigError where the outputs cannot be told apart."""
    settings, parts = spec.settings, find_parts(spec.settings, outputs)
    assert isinstance(settings, DetectionSettings)
    find = _finished(settings, parts, outputs) if "classes" in parts else _raw(spec, settings, parts, outputs)
    labels, others = spec.labels, other_values(outputs, tuple(parts.values()))

    def decode(raw: Sequence[Array], seen: Seen = NOTHING_SEEN) -> Result:
        boxes, classes, scores = find(raw)
        places = _to_source(boxes, seen.placement).tolist()
        found = zip(classes.tolist(), scores.tolist(), places, strict=True)
        objects = [Detection(c, labels[c] if 0 <= c < len(labels) else "", s, Box(*place)) for c, s, place in found]
        return Result("detection", values=others(raw), detections=tuple(objects))

    return decode


def find_parts(settings: Settings | None, outputs: Sequence[ModelOutput]) -> dict[str, int]:
    """Which output is boxes, scores and, of a model that ends in TFLite_Detection_PostProcess, classes and count.

    As the contract says; else by number and shape. Four: the op's own order (boxes, classes, scores, count), or that of
    TensorFlow 2's exporter (scores, boxes, count, classes). Two: boxes are those with 4 numbers each.
    """
    assert isinstance(settings, DetectionSettings)
    names = [output.name for output in outputs]
    said: dict[str, int] = {}
    for part, place in settings.tensors.items():
        if place is None:
            continue
        said[part] = names.index(place) if place in names else place if isinstance(place, int) else -1
        if not 0 <= said[part] < len(names):
            raise ConfigError(f"contract: {part} = {place!r} is no output of the model", hint=f"it has {names}")
    if said:
        if set(said) in ({"boxes", "scores"}, {"boxes", "scores", "classes", "count"}):
            return said
        raise ConfigError(f"contract: of a detection's outputs only {', '.join(said)} is said", hint=_HINT)
    shapes = [_essential(output.shape) for output in outputs]
    if len(outputs) == 4:
        ours = (0, 1, 2, 3) if _is_boxes(shapes[0]) or not shapes[0] else (1, 3, 0, 2)
        if _is_boxes(shapes[ours[0]]) or not any(shapes):
            return dict(zip(("boxes", "classes", "scores", "count"), ours, strict=True))
    if len(outputs) == 2:
        is_boxes = [_is_boxes(shape) for shape in shapes]
        if any(is_boxes):
            boxes = 1 if is_boxes == [False, True] else 0
            return {"boxes": boxes, "scores": 1 - boxes}
    told = ", ".join(f"{output.name!r} {list(output.shape)}" for output in outputs)
    raise ConfigError(f"which outputs are boxes and scores cannot be told from {told}", hint=_HINT)


def _essential(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:]) if tuple(shape[:1]) == (1,) else tuple(shape)


def _is_boxes(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and shape[-1] == 4


@dataclass(frozen=True)
class _Corners:
    """Boxes in the contract's format to (y0, x0, y1, x1) in fractions of the model's input."""

    box_format: str
    extent: tuple[float, float]

    def __call__(self, boxes: Floats) -> Floats:
        a, b, c, d = boxes.T
        if self.box_format in ("xyxy", "cxcywh"):
            a, b, c, d = b, a, d, c
        if self.box_format in ("cycxhw", "cxcywh"):
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        y, x = self.extent
        return np.stack([a / y, b / x, c / y, d / x], axis=1).astype(np.float32, copy=False)


def _finished(settings: DetectionSettings, parts: dict[str, int], outputs: Sequence[ModelOutput]) -> Any:
    """Of a model that ends in TFLite_Detection_PostProcess: boxes (y0, x0, y1, x1) in fractions, suppressed already."""
    affines = {part: outputs[i].affine for part, i in parts.items()}
    corners = _Corners(settings.box_format, settings.extent)

    def find(raw: Sequence[Array]) -> tuple[Floats, Ids, Floats]:
        boxes, scores, classes, count = (
            dequantize(raw[parts[part]], affines[part]) for part in ("boxes", "scores", "classes", "count")
        )
        scores = scores.reshape(-1)
        n = max(0, min(int(count.reshape(-1)[0]), len(scores)))  # behind it stands what was there before
        good = np.flatnonzero(scores[:n] >= settings.threshold)
        order = good[np.argsort(-scores[good], kind="stable")][: settings.max_detections]
        return corners(boxes.reshape(-1, 4)[order]), classes.reshape(-1)[order].astype(np.intp), scores[order]

    return find


def _raw(
    spec: OutputSpec, settings: DetectionSettings, parts: dict[str, int], outputs: Sequence[ModelOutput]
) -> Any:  # fmt: skip
    """Of raw boxes [.., n, 4] and scores [.., n, classes]: what TFLite_Detection_PostProcess does ("regular" NMS)."""
    boxes_at, scores_at = parts["boxes"], parts["scores"]
    shape = _essential(outputs[boxes_at].shape)
    n = int(np.prod(shape[:-1]))
    classes = int(np.prod(outputs[scores_at].shape)) // max(n, 1)
    if not _is_boxes(shape) or classes < 1 or int(np.prod(outputs[scores_at].shape)) != n * classes:
        told = [list(outputs[i].shape) for i in (boxes_at, scores_at)]
        raise ConfigError(f"boxes {told[0]} and scores {told[1]} do not fit: [1, n, 4] and [1, n, classes]")
    anchors = np.asarray(settings.anchors, np.float32)
    if len(anchors) and len(anchors) != n:
        raise ConfigError(f"the contract has {len(anchors)} anchors and the model {n} boxes")
    behind = 1 if settings.background else 0
    if spec.labels and len(spec.labels) != classes - behind:
        raise ConfigError(f"the contract has {len(spec.labels)} labels but the model scores {classes - behind} classes")
    hits = _Hits(settings, outputs[scores_at].affine, behind)
    affine, corners = outputs[boxes_at].affine, _Corners(settings.box_format, settings.extent)
    decode_offsets = _Offsets(anchors, settings) if len(anchors) else None

    def find(raw: Sequence[Array]) -> tuple[Floats, Ids, Floats]:
        rows, kinds, scores = hits(raw[scores_at].reshape(n, classes))
        numbers = dequantize(raw[boxes_at].reshape(n, 4)[rows], affine)
        boxes = corners(numbers) if decode_offsets is None else decode_offsets(numbers, rows)
        finite = np.isfinite(boxes).all(axis=1)
        boxes, kinds, scores = boxes[finite], kinds[finite], scores[finite]
        kept = suppress(boxes, scores, kinds, settings.iou, settings.max_detections)
        return boxes[kept], kinds[kept], scores[kept]

    return find


class _Hits:
    """Scores that reach the threshold: (row, class, score) of the best CANDIDATES."""

    def __init__(self, settings: DetectionSettings, affine: Affine, behind: int) -> None:
        self._activation, self._threshold = settings.activation, np.float32(settings.threshold)
        self._affine, self._behind = affine, behind
        self._least = None if self._activation == "softmax" else _least_code(settings, affine)

    def __call__(self, raw: Array) -> tuple[Ids, Ids, Floats]:
        if self._least is None:
            values = _activated(dequantize(raw, self._affine), self._activation).reshape(-1)
            at = np.flatnonzero(values >= self._threshold)  # NaN reaches nothing
            found = values[at]
        else:  # nearly all fall here, as they come from the model
            flat = raw.reshape(-1)
            at = np.flatnonzero(flat >= self._least)
            found = _activated(dequantize(flat[at], self._affine), self._activation)
        rows, kinds = np.divmod(at, raw.shape[1])
        good = (found >= self._threshold) & (kinds >= self._behind)
        rows, kinds, found = rows[good], kinds[good] - self._behind, found[good]
        if len(found) > CANDIDATES:
            best = np.argsort(-found, kind="stable")[:CANDIDATES]
            rows, kinds, found = rows[best], kinds[best], found[best]
        return rows, kinds, found


def _least_code(settings: DetectionSettings, affine: Affine) -> float:
    """What the model must at least give for a score to reach the threshold, rounded down."""
    value = settings.threshold
    if settings.activation == "sigmoid":
        value = min(max(value, 1e-9), 1 - 1e-9)
        value = math.log(value / (1 - value)) - 1e-3
    return math.floor(value / affine.scale + affine.zero_point - 1e-3) if affine.is_quantized else value - 1e-6


def _activated(values: Floats, activation: str) -> Floats:
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-values)), np.float32)
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    return values


class _Offsets:
    """SSD's box coder: a box is an offset to its anchor's center and a logarithm of its sides' ratio."""

    def __init__(self, anchors: Floats, settings: DetectionSettings) -> None:
        self._anchors = anchors
        self._scales = np.asarray(settings.box_scales, np.float32)
        self._swapped = settings.box_format in ("xyxy", "cxcywh")  # x before y in the offsets, too

    def __call__(self, numbers: Floats, rows: Ids) -> Floats:
        if self._swapped:
            numbers = numbers[:, [1, 0, 3, 2]]
        offsets, anchors = numbers / self._scales, self._anchors[rows]
        centers = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
        halves = np.exp(np.minimum(offsets[:, 2:], _LOG_MAX)) * anchors[:, 2:] / 2
        corners: Floats = np.concatenate([centers - halves, centers + halves], axis=1)
        return corners


def _to_source(boxes: Floats, place: Placement) -> Floats:
    """(y0, x0, y1, x1) in fractions to (left, top, right, bottom) in source pixels, cut to the picture."""
    scale = np.asarray([place.x_scale, place.y_scale] * 2, np.float32)
    offset = np.asarray([place.x_offset, place.y_offset] * 2, np.float32)
    limit = np.asarray([place.width, place.height] * 2, np.float32)
    cut: Floats = np.clip(boxes[:, [1, 0, 3, 2]] * scale + offset, 0, limit)
    return cut
