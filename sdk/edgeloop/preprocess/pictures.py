"""Pictures into a model's input in as few passes as there can be: shrink, order the channels, look up, all into place.

Scaling and quantization are one table of 256 entries per channel, for a pixel has 256 values; nothing is float on the
way to an integer model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import quantize
from edgeloop.contract import CHANNELS, InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.geometry import Rectangle, fit
from edgeloop.preprocess.model_input import Array, ModelInput

Pixels = npt.NDArray[np.uint8]
Write = Callable[[Pixels, Array], object]

LETTERBOX_GRAY = 114
_PIXEL_VALUES = np.arange(256, dtype=np.float32)
_SIGN_BIT = 0x80
_CV2_TABLES = ("int16", "uint16", "int32", "float32", "float64")  # beside those of one byte


def resize(frame: Pixels, height: int, width: int, how: str) -> Pixels:
    """uint8 [H, W] or [H, W, C] to [height, width(, C)].

    stretch: both axes freely; letterbox: the whole picture between gray (114) bars; crop: the largest centered part of
    the right proportions. For pixels see `scaled`.
    """
    h, w = frame.shape[:2]
    if (h, w) == (height, width):
        return frame
    part, inner = fit(h, w, height, width, how)
    small = scaled(_cut(frame, part), inner.height, inner.width)
    if how != "letterbox":
        return small
    canvas = np.full((height, width, *frame.shape[2:]), LETTERBOX_GRAY, np.uint8)
    _cut(canvas, inner)[...] = small
    return canvas


def scaled(frame: Pixels, height: int, width: int) -> Pixels:
    """uint8 [H, W] or [H, W, C] at another size: an axis is halved while it is at least twice as long, and the rest is
    bilinear. Every pixel counts, as in area averaging, which takes OpenCV five times as long at fractional ratios.
    """
    import cv2

    h, w = frame.shape[:2]
    while h >= 2 * height or w >= 2 * width:
        h, w = (h // 2 if h >= 2 * height else h), (w // 2 if w >= 2 * width else w)
        frame = _channels_kept(cv2.resize(frame, (w, h), interpolation=cv2.INTER_LINEAR), frame)
    if (h, w) != (height, width):
        frame = _channels_kept(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), frame)
    return frame


def _channels_kept(small: Any, frame: Pixels) -> Pixels:
    """OpenCV drops a last axis of 1."""
    return np.asarray(small if small.ndim == frame.ndim else small[..., None], np.uint8)


def _cut(frame: Array, part: Rectangle) -> Array:
    return frame[part.top : part.top + part.height, part.left : part.left + part.width]


class PictureInput:
    """See `edgeloop.preprocess.compile_input`, kind "image". Raises ConfigError when contract and model do not fit."""

    def __init__(self, spec: InputSpec, tensor: ModelInput) -> None:
        import cv2

        assert spec.size is not None  # InputSpec checks it
        channels = CHANNELS[spec.color]
        expected = (1, *spec.size, channels)
        if tuple(tensor.shape) != expected:
            raise ConfigError(
                f"the contract's image is {list(expected)} but model input {tensor.name!r} is {list(tensor.shape)}",
                hint="set size and color in the contract to what the model takes",
            )
        self._spec = spec
        self._out = np.empty(expected, tensor.dtype)
        table = pixel_table(spec, tensor)
        self._bar = table[LETTERBOX_GRAY]
        self._convert, self._cvt_color = _color_conversion(spec.color), cv2.cvtColor
        self._write, self._plane = _writer(table, self._out[0] if channels > 1 else self._out[0, :, :, 0])
        self._size = (0, 0)
        self._part = self._inner = Rectangle(0, 0, 0, 0)
        self._target = self._plane
        self._fits = False

    def __call__(self, frame: Array) -> Array:
        """uint8 [H, W], [H, W, 1], BGR [H, W, 3] or BGRA [H, W, 4] to the model's input. Raises DataError."""
        if frame.dtype != np.uint8:
            raise DataError(f"an image must be uint8 pixels, got {frame.dtype}")
        if frame.ndim not in (2, 3) or frame.size == 0:
            raise DataError(f"an image must be [height, width] or [height, width, channels], got {list(frame.shape)}")
        pixels = frame if frame.ndim == 2 or frame.shape[2] != 1 else frame[:, :, 0]
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        if channels not in (1, 3, 4):
            raise DataError(f"an image must have 1, 3 or 4 channels, got {channels}")
        if pixels.shape[:2] != self._size:
            self._lay_out(*pixels.shape[:2])
        # Scaling before the color conversion touches fewer pixels and gives the same result channel by channel.
        if not self._fits:
            pixels = scaled(_cut(pixels, self._part), self._inner.height, self._inner.width)
        code = self._convert.get(channels)
        if code is not None:
            pixels = self._cvt_color(pixels, code)
        self._write(pixels, self._target)
        return self._out

    def _lay_out(self, height: int, width: int) -> None:
        """Where pictures of this size go. Letterbox bars are drawn here, once."""
        assert self._spec.size is not None
        self._part, self._inner = fit(height, width, *self._spec.size, self._spec.resize)
        self._target = _cut(self._plane, self._inner)
        self._size = (height, width)
        self._fits = self._inner.height == height and self._inner.width == width  # nothing to cut, nothing to scale
        if self._target.shape != self._plane.shape:
            self._out[...] = self._bar


def pixel_table(spec: InputSpec, tensor: ModelInput) -> Array:
    """[256, channels] in the tensor's dtype: what each pixel value of each channel becomes at the model's input."""
    channels = CHANNELS[spec.color]
    mean = np.broadcast_to(np.asarray(spec.mean, np.float32), (channels,))
    std = np.broadcast_to(np.asarray(spec.std, np.float32), (channels,))
    values = (_PIXEL_VALUES[:, None] - mean) / std
    return quantize(values, tensor.affine, tensor.dtype)


def _writer(table: Array, plane: Array) -> tuple[Write, Array]:
    """(a function that writes table[pixels] into a part of `plane`, the plane as it wants it): the cheapest way that
    gives these very values."""
    import cv2

    same_for_all = bool((table == table[:, :1]).all())
    if table.dtype.itemsize == 1:
        table, plane = table.view(np.uint8), plane.view(np.uint8)
        pixels = np.arange(256, dtype=np.uint8)
        if same_for_all and (table[:, 0] == pixels).all():
            return (lambda pixels, target: np.copyto(target, pixels)), plane
        if same_for_all and (table[:, 0] == pixels ^ _SIGN_BIT).all():  # int8 of pixel - 128
            return (lambda pixels, target: np.bitwise_xor(pixels, _SIGN_BIT, out=target)), plane
    elif table.dtype.name not in _CV2_TABLES:
        return _by_columns(table), plane
    lut = np.ascontiguousarray(table[:, :1] if same_for_all else table[:, None, :])
    return (lambda pixels, target: cv2.LUT(pixels, lut, target)), plane


def _by_columns(table: Array) -> Write:
    """For formats that OpenCV has no tables of (float16)."""
    columns = [np.ascontiguousarray(table[:, c]) for c in range(table.shape[1])]

    def write(pixels: Pixels, target: Array) -> None:
        if len(columns) == 1:
            target[...] = columns[0][pixels]
            return
        for c, column in enumerate(columns):
            target[..., c] = column[pixels[..., c]]

    return write


def _color_conversion(color: str) -> dict[int, int]:
    """OpenCV conversion code by the frame's channel count (1 gray, 3 BGR, 4 BGRA); absent: nothing to do."""
    import cv2

    return {
        "rgb": {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB},
        "bgr": {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR},
        "gray": {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY},
    }[color]
