"""How outputs of each kind are decoded: the further keys of a contract's [output] table, as one frozen class per kind.

Pure values; no numpy (the agent's supervisor reads contracts, too). Tables of numbers (anchors, gallery) travel inline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from edgeloop.errors import ConfigError

ACTIVATIONS = ("none", "sigmoid", "softmax")
BOX_FORMATS = ("yxyx", "xyxy", "cycxhw", "cxcywh")
POINT_FORMATS = ("yx", "xy")
JOINED = ("no", "rows", "columns")
ANOMALY_SCORES = ("output", "reconstruction")
MAX_TABLE_NUMBERS = 32768
MAX_FRAMES = 10_000

Row = tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """Of a kind that has none (raw)."""

    def to_dict(self) -> dict[str, Any]:
        """Those that are not the default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {f.name: _plain(values[f.name]) for f in fields(self) if values[f.name] != f.default}


@dataclass(frozen=True)
class ClassificationSettings(Settings):
    """The best `top_k` classes whose score is at least `threshold` (None: all). smoothing: scores are means over so
    many inferences, the latest and those before it."""

    top_k: int = 3
    threshold: float | None = None
    smoothing: int = 1


@dataclass(frozen=True)
class DetectionSettings(Settings):
    """Objects with a score of at least `threshold`, at most `max_detections`.

    boxes, classes, scores, count: which output of the model each is, by place, or by name until a conversion has looked
    it up; None: found by their shapes. With `classes` and `count` the model ends in TFLite_Detection_PostProcess; with
    boxes [.., N, 4] and scores [.., N, classes] alone the rest is done here:
    box_format: y x of both corners, or center and size; extent: (y, x) of the lower right corner in the boxes' unit.
    anchors: rows (cy, cx, h, w), fractions; boxes are then offsets to them in units of `box_scales` (the SSD box coder,
    Liu et al. 2016, "SSD: Single Shot MultiBox Detector", with TensorFlow's scales 10, 10, 5, 5).
    activation: what makes scores of the numbers. background: class 0 is "nothing", and the labels begin behind it.
    joined: boxes and scores are one output, for each box a row or a column: 4 numbers, with `objectness` how certain it
    is that there is anything, and the classes' scores (as in YOLO: Redmon et al. 2016, "You Only Look Once").
    iou: of two boxes of one class that overlap more than this, only the better one is kept.
    """

    threshold: float = 0.5
    max_detections: int = 100
    boxes: int | str | None = None
    scores: int | str | None = None
    classes: int | str | None = None
    count: int | str | None = None
    box_format: str = "yxyx"
    extent: tuple[float, float] = (1.0, 1.0)
    anchors: tuple[Row, ...] = ()
    box_scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    activation: str = "none"
    background: bool = False
    joined: str = "no"
    objectness: bool = False
    iou: float = 0.5

    @property
    def tensors(self) -> dict[str, int | str | None]:
        """Which output each part is, as said."""
        return {"boxes": self.boxes, "scores": self.scores, "classes": self.classes, "count": self.count}


@dataclass(frozen=True)
class SegmentationSettings(Settings):
    """threshold: of a model with one channel, from which value on a pixel is of class 1."""

    threshold: float = 0.5


@dataclass(frozen=True)
class KeypointsSettings(Settings):
    """point_format: order of the two coordinates. extent: (y, x) of the lower right corner in their unit."""

    point_format: str = "yx"
    extent: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class EmbeddingSettings(Settings):
    """gallery: known vectors, one row per entry; the contract's labels name the rows (several may have one name). A
    match is one of the best `top_k` names with a cosine similarity of at least `threshold`."""

    gallery: tuple[Row, ...] = ()
    threshold: float = 0.0
    top_k: int = 3


@dataclass(frozen=True)
class AnomalySettings(Settings):
    """anomaly_score: "output": the model's one number; "reconstruction": the mean squared error between the model's
    input and its output. threshold: above it the sample is anomalous."""

    threshold: float | None = None
    anomaly_score: str = "output"


SETTINGS: Mapping[str, type[Settings]] = {
    "classification": ClassificationSettings,
    "detection": DetectionSettings,
    "segmentation": SegmentationSettings,
    "keypoints": KeypointsSettings,
    "embedding": EmbeddingSettings,
    "anomaly": AnomalySettings,
    "raw": Settings,
}
"""By output kind."""


def settings_from(kind: str, table: Mapping[str, Any]) -> Settings:
    """The settings of a (known) kind from plain values, checked. Raises ConfigError."""
    known = [f.name for f in fields(SETTINGS[kind])]
    unknown = sorted(set(table) - set(known))
    if unknown:
        others = [other for other, cls in SETTINGS.items() if unknown[0] in {f.name for f in fields(cls)}]
        raise ConfigError(
            f"contract: a {kind} output has no key '{unknown[0]}'",
            hint=f"that is a key of {' and '.join(others)}" if others else f"known: {', '.join(known) or 'none'}",
        )
    return SETTINGS[kind](**{key: _CHECKS[key](f"contract: output '{key}'", value) for key, value in table.items()})


def _number(low: float = -math.inf, high: float = math.inf) -> Callable[[str, Any], float]:
    def check(what: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            bounds = "" if high == math.inf else f" from {low:g} to {high:g}"
            raise ConfigError(f"{what} must be a number{bounds}, got {value!r}")
        return float(value)

    return check


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def check(what: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{what} must be a whole number from {low} to {high}, got {value!r}")
        return value

    return check


def _one_of(allowed: Sequence[str]) -> Callable[[str, Any], str]:
    def check(what: str, value: Any) -> str:
        if value not in allowed:
            raise ConfigError(f"{what} {value!r} is not known", hint=f"one of: {', '.join(allowed)}")
        return str(value)

    return check


def _positive(n: int) -> Callable[[str, Any], tuple[float, ...]]:
    def check(what: str, value: Any) -> tuple[float, ...]:
        numbers = _row(what, value)
        if len(numbers) != n or min(numbers) <= 0:
            raise ConfigError(f"{what} must be {n} numbers above 0, got {value!r}")
        return numbers

    return check


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} must be true or false, got {value!r}")
    return value


def _output(what: str, value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "" or (value in range(-1024, 0)):
        raise ConfigError(f"{what} must be the name or the place (from 0) of an output, got {value!r}")
    return value


def _table(columns: int | None) -> Callable[[str, Any], tuple[Row, ...]]:
    def check(what: str, value: Any) -> tuple[Row, ...]:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{what} must be rows of numbers, or the name of an .npz file")
        rows = tuple(_row(what, row) for row in value)
        widths = {len(row) for row in rows}
        if len(widths) > 1 or 0 in widths or (columns is not None and widths - {columns}):
            raise ConfigError(f"{what}: every row needs {columns or 'as many'} numbers, got {sorted(widths)}")
        if sum(map(len, rows)) > MAX_TABLE_NUMBERS:
            raise ConfigError(f"{what}: more than {MAX_TABLE_NUMBERS} numbers do not travel in a contract")
        return rows

    return check


def _row(what: str, value: Any) -> Row:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{what} must be a list of numbers, got {value!r}")
    number = _number(-3.5e38, 3.5e38)
    return tuple(number(what, each) for each in value)


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "top_k": _whole(1, 1000),
    "threshold": _number(-3.5e38, 3.5e38),
    "smoothing": _whole(1, MAX_FRAMES),
    "max_detections": _whole(1, MAX_FRAMES),
    "boxes": _output,
    "scores": _output,
    "classes": _output,
    "count": _output,
    "box_format": _one_of(BOX_FORMATS),
    "extent": _positive(2),
    "anchors": _table(4),
    "box_scales": _positive(4),
    "activation": _one_of(ACTIVATIONS),
    "background": _flag,
    "joined": _one_of(JOINED),
    "objectness": _flag,
    "iou": _number(0.0, 1.0),
    "point_format": _one_of(POINT_FORMATS),
    "gallery": _table(None),
    "anomaly_score": _one_of(ANOMALY_SCORES),
}
"""Keys of one name mean the same in every kind."""
