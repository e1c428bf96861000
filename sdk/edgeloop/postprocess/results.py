"""What a decoded inference is: one frozen `Result` whose parts are filled by the contract's output kind.

Places are in pixels of the picture that came from the source, (0, 0) its upper left corner, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_VALUES = 1024
"""Raw outputs up to so many numbers are written in full; of larger ones only the shape."""
NO_CLASS = 255
"""In a mask brought to the picture: what the model did not see (it was cropped off)."""


class ClassScore(NamedTuple):  # a tuple: a frozen dataclass takes three times as long to make, at every inference
    """One class and its score: the model's dequantized output; for an embedding the cosine similarity."""

    class_id: int
    label: str
    score: float


class Box(NamedTuple):
    """A rectangle in pixels of the source picture."""

    left: float
    top: float
    right: float
    bottom: float


class Detection(NamedTuple):
    """One object found."""

    class_id: int
    label: str
    score: float
    box: Box


class Keypoint(NamedTuple):
    """One point of a body or the like. `score`: how sure the model is that it is visible there."""

    name: str
    x: float
    y: float
    score: float


class ClassShare(NamedTuple):
    """Which share (0..1) of a mask's pixels is of this class."""

    class_id: int
    label: str
    share: float


@dataclass(frozen=True, eq=False)
class Mask:
    """class_ids: uint8 [h, w], the class of every pixel, at the model's own resolution and without letterbox bars.
    box: the part of the source picture that it covers. shares: the classes that occur, largest share first.
    """

    class_ids: npt.NDArray[np.uint8]
    box: Box
    shares: tuple[ClassShare, ...] = ()

    def at_picture(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """uint8 [height, width]: the class of every pixel of the source picture (nearest), NO_CLASS outside `box`."""
        rows = _nearest(height, self.box.top, self.box.bottom, self.class_ids.shape[0])
        columns = _nearest(width, self.box.left, self.box.right, self.class_ids.shape[1])
        out = self.class_ids[np.maximum(rows, 0)][:, np.maximum(columns, 0)]
        out[rows < 0] = NO_CLASS
        out[:, columns < 0] = NO_CLASS
        return out


class Anomaly(NamedTuple):
    """`is_anomalous`: the score is above the contract's threshold; None where the contract has no threshold."""

    score: float
    threshold: float | None
    is_anomalous: bool | None


@dataclass(frozen=True)
class Result:
    """A decoded inference. Which part is filled follows from `kind`, the contract's output kind:

    classification: `top`, best first. detection: `detections`, best first. segmentation: `mask`. keypoints:
    `keypoints`, in the model's order. embedding: `values` (the vector), and `top`, the nearest entries of the gallery
    where there is one. anomaly: `anomaly`. raw: `values`.
    `values`: dequantized outputs (float32), in the model's order; of other kinds those that are not decoded.
    `variant`: which one ran, where several took turns. `reused`: it is that of an earlier frame that looked alike.
    """

    kind: str
    top: tuple[ClassScore, ...] = ()
    values: tuple[npt.NDArray[np.float32], ...] = ()
    variant: str = ""
    reused: bool = False
    detections: tuple[Detection, ...] = field(default=(), kw_only=True)
    mask: Mask | None = field(default=None, kw_only=True)
    keypoints: tuple[Keypoint, ...] = field(default=(), kw_only=True)
    anomaly: Anomaly | None = field(default=None, kw_only=True)

    @property
    def best(self) -> ClassScore | Detection | None:
        """The first of `top`, or of `detections`."""
        return self.top[0] if self.top else self.detections[0] if self.detections else None

    @property
    def label(self) -> str:
        """Label (or class number) of the best class, match or detection; empty where there is none."""
        best = self.best
        return "" if best is None else best.label or str(best.class_id)

    @property
    def score(self) -> float | None:
        """Score of the best class, match or detection, or the anomaly score; None where there is none."""
        best = self.best
        if best is not None:
            return best.score
        return self.anomaly.score if self.anomaly else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON or CBOR: the parts that `kind` fills; `variant`, `reused` where they say something.

        top: [{class_id, label, score}]; detections: [{class_id, label, score, box: [left, top, right, bottom]}];
        keypoints: [{name, x, y, score}]; mask: {shape, box, classes: [{class_id, label, share}]} without its pixels;
        anomaly: {score, threshold, is_anomalous}; values: a list for each output, or shapes, where they are more than
        MAX_VALUES numbers. Seven digits; NaN and infinity are None.
        """
        said: dict[str, Any] = {}
        if self.variant:
            said["variant"] = self.variant
        if self.reused:
            said["reused"] = True
        if self.top or self.kind == "classification":
            said["top"] = [_plain(each) for each in self.top]
        if self.detections or self.kind == "detection":
            said["detections"] = [_plain(each) for each in self.detections]
        if self.keypoints:
            said["keypoints"] = [_plain(each) for each in self.keypoints]
        if self.mask is not None:
            shares = [_plain(each) for each in self.mask.shares]
            said["mask"] = {"shape": [*self.mask.class_ids.shape], "box": _plain(self.mask.box), "classes": shares}
        if self.anomaly is not None:
            said["anomaly"] = _plain(self.anomaly)
        if self.values and not (self.kind == "embedding" and self.top):
            said.update(_values(self.values))
        return said


def _values(values: tuple[npt.NDArray[np.float32], ...]) -> dict[str, Any]:
    if sum(v.size for v in values) > MAX_VALUES:
        return {"shapes": [list(v.shape) for v in values]}
    return {"values": [[_plain(x) for x in v.reshape(-1).tolist()] for v in values]}


def _plain(value: Any) -> Any:
    if isinstance(value, Box):
        return [_plain(x) for x in value]
    if isinstance(value, tuple):  # one of the named ones above
        return {name: _plain(part) for name, part in zip(value._fields, value, strict=True)}  # type: ignore[attr-defined]
    if isinstance(value, float):
        return float(f"{value:.7g}") if value - value == 0 else None  # JSON has no NaN and no infinity
    return value


def _nearest(size: int, low: float, high: float, cells: int) -> npt.NDArray[np.intp]:
    """For each of `size` pixels which of `cells` between low and high its center lies in; -1: none."""
    at = np.floor((np.arange(size) + 0.5 - low) * (cells / max(high - low, 1e-9))).astype(np.intp)
    return np.where((at < 0) | (at >= cells), -1, at)
