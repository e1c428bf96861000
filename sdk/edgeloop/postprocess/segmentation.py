"""A class for every pixel, and how much of the picture each class takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgeloop.affine import quantize
from edgeloop.contract import OutputSpec
from edgeloop.decoding import SegmentationSettings
from edgeloop.errors import ConfigError
from edgeloop.geometry import Placement
from edgeloop.postprocess.decoding import NOTHING_SEEN, Array, Decoder, ModelOutput, Seen, misfit, other_values
from edgeloop.postprocess.results import Box, ClassShare, Mask, Result

Ids = npt.NDArray[np.uint8]
MAX_CLASSES = 255  # class ids are bytes, and the last is NO_CLASS


def segmentation(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """Of an output [1, h, w] that holds class ids, [1, h, w, classes] scores, or [1, h, w, 1] (0 or 1 by threshold)."""
    settings, output, index, labels = spec.settings, outputs[spec.index], spec.index, spec.labels
    assert isinstance(settings, SegmentationSettings)
    shape = output.shape[1:] if output.shape[:1] == (1,) else output.shape
    if len(shape) not in (2, 3) or min(shape, default=0) < 1:
        raise misfit("segmentation", output, "class ids [1, h, w] or scores [1, h, w, classes]")
    if len(shape) == 3 and shape[2] > MAX_CLASSES:
        raise misfit("segmentation", output, f"of at most {MAX_CLASSES} classes")
    classes = max(shape[2], 2) if len(shape) == 3 else 0
    if labels and classes and len(labels) != classes:
        raise ConfigError(f"the contract has {len(labels)} labels but the model has {classes} classes")
    to_ids = _to_ids(output, shape, settings.threshold)
    others = other_values(outputs, (index,))

    def decode(raw: Sequence[Array], seen: Seen = NOTHING_SEEN) -> Result:
        ids, box = _within(to_ids(raw[index].reshape(shape)), seen.placement)
        return Result("segmentation", values=others(raw), mask=Mask(ids, box, _shares(ids, labels)))

    return decode


def _to_ids(output: ModelOutput, shape: tuple[int, ...], threshold: float) -> Callable[[Array], Ids]:
    if len(shape) == 2:
        return lambda raw: np.clip(_numbers(raw), 0, MAX_CLASSES - 1).astype(np.uint8)
    if shape[2] == 1:
        if output.affine.is_quantized:
            info = np.int32  # wide enough for any code, and for a threshold that no code reaches
            floor = int(quantize([threshold], output.affine, info)[0])
            return lambda raw: (raw[:, :, 0] >= floor).astype(np.uint8)
        return lambda raw: (raw[:, :, 0] >= threshold).astype(np.uint8)
    return lambda raw: raw.argmax(axis=2).astype(np.uint8)


def _numbers(ids: Array) -> Array:
    """Class ids that are floats may be NaN: 0."""
    return np.nan_to_num(ids) if ids.dtype.kind == "f" else ids


def _within(ids: Ids, place: Placement) -> tuple[Ids, Box]:
    """Without letterbox bars; and the part of the source picture that is left."""
    (rows, top, bottom), (columns, left, right) = (
        _span(ids.shape[0], place.y_offset, place.y_scale, place.height),
        _span(ids.shape[1], place.x_offset, place.x_scale, place.width),
    )
    return np.ascontiguousarray(ids[rows, columns]), Box(left, top, right, bottom)


def _span(cells: int, offset: float, scale: float, size: float) -> tuple[slice, float, float]:
    """Which cells of an axis show the picture, and from where to where they reach in it."""
    first = max(0, round(-offset / scale * cells))
    last = min(cells, round((size - offset) / scale * cells))
    last = max(last, first + 1)
    return slice(first, last), max(0.0, first / cells * scale + offset), min(size, last / cells * scale + offset)


def _shares(ids: Ids, labels: Sequence[str]) -> tuple[ClassShare, ...]:
    counts = np.bincount(ids.reshape(-1))
    order = np.argsort(-counts, kind="stable")[: int(np.count_nonzero(counts))].tolist()
    return tuple([ClassShare(c, labels[c] if c < len(labels) else "", float(counts[c]) / ids.size) for c in order])
