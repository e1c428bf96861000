"""Objects and their boxes, from a model that ends in TFLite_Detection_PostProcess or from raw boxes and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeloop.affine import dequantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import DetectionSettings, Settings
from edgeloop.errors import ConfigError, DataError
from edgeloop.postprocess.boxes import Floats, Ids, corners_of, to_source
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, other_values
from edgeloop.postprocess.raw_boxes import Find, raw_finder
from edgeloop.postprocess.results import Box, Detection, Result

_HINT = "say boxes, scores, and classes and count where the model gives them, in [output] of the contract, by name"


def detection(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Best first, in source pixels, cut to the picture. Raises ConfigError where the outputs cannot be told apart; the
    decoder raises DataError for outputs of sizes that no file said before, where they do not fit."""
    settings, parts = spec.settings, find_parts(spec.settings, outputs)
    assert isinstance(settings, DetectionSettings)
    find = _finished(settings, parts, outputs) if "classes" in parts else raw_finder(spec, settings, parts, outputs)
    labels, others = spec.labels, other_values(outputs, tuple(parts.values()))

    def decode(raw: Sequence[Array], seen: Seen = NOTHING_SEEN) -> Result:
        with np.errstate(all="ignore"):  # NaN and infinity are nothing to print for every frame
            boxes, classes, scores = find(raw)
            places = to_source(boxes, seen.placement).tolist()
        found = zip(classes.tolist(), scores.tolist(), places, strict=True)
        objects = [Detection(c, labels[c] if 0 <= c < len(labels) else "", s, Box(*place)) for c, s, place in found]
        return Result("detection", values=others(raw), detections=tuple(objects))

    return decode


def find_parts(settings: Settings | None, outputs: Sequence[ModelOutput]) -> dict[str, int]:
    """Which output is boxes, scores and, of a model that ends in TFLite_Detection_PostProcess, classes and count.

    As the contract says; else by number and shape. Four: the op's own order (boxes, classes, scores, count), or that of
    TensorFlow 2's exporter (scores, boxes, count, classes). Two: boxes are those with 4 numbers each. Joined: one is
    both.
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
    if settings.joined != "no" and set(said) <= {"boxes"} and (said or len(outputs) == 1):
        return dict.fromkeys(("boxes", "scores"), said.get("boxes", 0))
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


def _finished(settings: DetectionSettings, parts: Mapping[str, int], outputs: Sequence[ModelOutput]) -> Find:
    """Of a model that ends in TFLite_Detection_PostProcess: boxes (y0, x0, y1, x1) in fractions, suppressed already."""
    affines = {part: outputs[i].affine for part, i in parts.items()}
    shapes = {part: outputs[i].shape for part, i in parts.items()}
    if all(shapes[part] for part in ("boxes", "scores", "classes")) and not _fit(shapes):
        raise ConfigError(_told(shapes), hint=_HINT)

    def find(raw: Sequence[Array]) -> tuple[Floats, Ids, Floats]:
        boxes, scores, classes, count = (
            dequantize(raw[parts[part]], affines[part]) for part in ("boxes", "scores", "classes", "count")
        )
        said = {"boxes": boxes.shape, "scores": scores.shape, "classes": classes.shape, "count": count.shape}
        if not _fit(said):  # a file alone does not say them
            raise DataError(_told(said))
        scores = scores.reshape(-1)
        n = int(np.nan_to_num(count.reshape(-1)[0]).clip(0, len(scores)))  # behind it stands what was there before
        good = np.flatnonzero(scores[:n] >= settings.threshold)
        order = good[np.argsort(-scores[good], kind="stable")][: settings.max_detections]
        return (
            corners_of(boxes.reshape(-1, 4)[order], settings),
            np.nan_to_num(classes.reshape(-1)[order], nan=-1).astype(np.intp),
            scores[order],
        )

    return find


def _fit(shapes: Mapping[str, Sequence[int]]) -> bool:
    scores, classes, boxes, count = (math.prod(shapes[part]) for part in ("scores", "classes", "boxes", "count"))
    return 4 * scores == 4 * classes == boxes and count == 1


def _told(shapes: Mapping[str, Sequence[int]]) -> str:
    told = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
    return f"a finished detection is n boxes, classes and scores and one count, not {told}"
