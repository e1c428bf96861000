"""The plausible contracts beside a given one: other scalings and channel orders, other resizing, other class orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import CHANNELS, RESIZES, InputSpec
from edgeloop_converters.scalings import SCALINGS

Indices = npt.NDArray[np.int64]

_FRACTIONS_AT_MOST = 1.0
_INT16_FULL_SCALE = 32768.0


@dataclass(frozen=True, eq=False)
class InputReading:
    """One way to read a sample. changes: how many parts of the contract differ from the given one.

    flip: the channels of a tensor [H, W, 3] are taken in reverse, which a contract cannot say.
    """

    spec: InputSpec
    title: str
    changes: int
    fix: str
    flip: bool = False

    def frames(self, frames: Sequence[npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        return [frame[..., ::-1] for frame in frames] if self.flip else frames


@dataclass(frozen=True, eq=False)
class LabelReading:
    """One way to read class ids: `table[id in the data]` is the model's class id, -1 where there is none."""

    title: str
    table: Indices
    fix: str

    @property
    def changes(self) -> int:
        return 1 if self.title else 0


def image_readings(spec: InputSpec) -> list[InputReading]:
    """All usual scalings of a picture in both channel orders, and the given scaling with the channels swapped."""
    colors = ("rgb", "bgr") if CHANNELS[spec.color] == 3 else (spec.color,)
    found = [InputReading(spec, "", 0, "")]
    for color in colors:
        found += [_scaled(spec, s.title, s.mean, s.std, color) for s in SCALINGS if color in s.colors]
        if color != spec.color:
            for mean, std in ((spec.mean, spec.std), (spec.mean[::-1], spec.std[::-1])):
                found.append(_scaled(spec, "", mean, std, color))
        if max(spec.std) <= _FRACTIONS_AT_MOST and (spec.mean, spec.std) != ((0.0,), (1.0,)):
            mean, std = (tuple(v * 255 for v in values) for values in (spec.mean, spec.std))
            found.append(_scaled(spec, "the same mean and std times 255 (they are for pixels 0..1)", mean, std, color))
    return _distinct(found)


def resize_readings(reading: InputReading) -> list[InputReading]:
    """The same with the other ways to bring a picture to the model's size."""
    found = []
    for resize in RESIZES:
        if resize != reading.spec.resize:
            title = _joined(reading.title, f"resize {resize} instead of {reading.spec.resize}")
            fix = _joined(reading.fix, f"--resize {resize}", " ")
            found.append(InputReading(replace(reading.spec, resize=resize), title, reading.changes + 1, fix))
    return found


def tensor_readings(spec: InputSpec, values: npt.NDArray[Any]) -> list[InputReading]:
    """Usual scalings of numbers such as `values` [n, ...], the samples as they are in the source."""
    found = [InputReading(spec, "", 0, ""), _scaled(spec, "values as they are", (0.0,), (1.0,))]
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    is_picture = values.ndim in (3, 4) and (values.ndim == 3 or values.shape[-1] in (1, 3))
    if is_picture and whole and low >= 0 and 1 < high <= 255:
        found += [_scaled(spec, s.title, s.mean, s.std) for s in SCALINGS[1:] if len(s.mean) in (1, values.shape[-1])]
    if is_picture and low >= 0 and high <= 1 and not whole:
        found.append(_scaled(spec, "pixels 0..255 (the data are 0..1)", (0.0,), (1 / 255,)))
        found.append(_scaled(spec, "-1..1 (the data are 0..1)", (0.5,), (0.5,)))
    if whole and max(-low, high) > 255 and max(-low, high) <= _INT16_FULL_SCALE:
        found.append(_scaled(spec, "-1..1 (the data are 16-bit)", (0.0,), (_INT16_FULL_SCALE,)))
    if is_picture and values.ndim == 4 and values.shape[-1] == 3:
        flipped = [
            replace(
                r,
                title=_joined(r.title, "channels in reverse (BGR against RGB)"),
                changes=r.changes + 1,
                fix=_joined(r.fix, "reverse the channels of the data: x[..., ::-1]", " and "),
                flip=True,
            )
            for r in found
        ]
        found += flipped
    return _distinct(found)


def label_readings(classes: int, names: Sequence[str] | None) -> list[LabelReading]:
    """As given; ids one too low or too high; and where the classes have names, their other usual orders."""
    ids = np.arange(classes, dtype=np.int64)
    up = np.where(ids + 1 < classes, ids + 1, -1)
    found = [
        LabelReading("", ids, ""),
        LabelReading("class ids are one too low", up, "add 1 to the class ids (the model has a class in front)"),
        LabelReading("class ids are one too high", ids - 1, "subtract 1 from the class ids, so that they start at 0"),
    ]
    if names and len(names) == classes and all(names) and len(set(names)) == classes:
        if all(name.isdigit() for name in names):
            order = sorted(range(classes), key=lambda i: int(names[i]))
            fix = "give --labels with the names in the order of their numbers"
            found.append(LabelReading("the model counts its classes by number, not alphabetically", _rank(order), fix))
        order = sorted(range(classes), key=lambda i: names[i])
        fix = "sort the labels file, or give one in the order of the model's outputs"
        found.append(LabelReading("the model counts its classes in alphabetical order", _rank(order), fix))
    kept: list[LabelReading] = []
    for reading in found:
        if not any((reading.table == other.table).all() for other in kept):
            kept.append(reading)
    return kept


def _rank(order: Sequence[int]) -> Indices:
    table = np.empty(len(order), np.int64)
    table[np.asarray(order)] = np.arange(len(order))
    return table


def _scaled(
    spec: InputSpec, title: str, mean: tuple[float, ...], std: tuple[float, ...], color: str = ""
) -> InputReading:
    changed = replace(spec, mean=mean, std=std, color=color or spec.color)
    titles, flags = [], []
    if (mean, std) != (spec.mean, spec.std):
        titles.append(title or f"mean {_numbers(mean)}, std {_numbers(std)}")
        flags.append(f"--mean {_numbers(mean)} --std {_numbers(std)}")
    if changed.color != spec.color:
        titles.append(f"{changed.color} instead of {spec.color}")
        flags.append(f"--color {changed.color}")
    return InputReading(changed, ", ".join(titles), len(titles), " ".join(flags))


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{v:.6g}" for v in values)


def _joined(first: str, second: str, by: str = ", ") -> str:
    return f"{first}{by}{second}" if first else second


def _distinct(readings: Sequence[InputReading]) -> list[InputReading]:
    """One per different scaling; mean (0,) and (0, 0, 0) are the same. The first of several stays."""
    kept: dict[object, InputReading] = {}
    for reading in readings:
        spec, channels = reading.spec, 3
        mean, std = (v * channels if len(v) == 1 else v for v in (spec.mean, spec.std))
        kept.setdefault((mean, std, spec.color, spec.resize, reading.flip), reading)
    return list(kept.values())
