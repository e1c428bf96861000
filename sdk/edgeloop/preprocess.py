"""Preprocessing compiled from the contract: raw frame in, the model's own dtype out, in one preallocated buffer.

Host (evaluation) and device (agent) run this same code, so what was evaluated is what runs. For images into an integer
model there is no float detour: a pixel has 256 values, so decode, scaling and quantization fold into a 256-entry table
per channel.

    model value = (pixel - mean) / std          code = round(model value / scale) + zero_point, saturating
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine, quantize
from edgeloop.contract import CHANNELS, FREE, InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.geometry import fit
from edgeloop.padding import Sample, pad_to

Array = npt.NDArray[Any]
Preprocessor = Callable[[Array], Array]
SamplePreprocessor = Callable[[Sample], tuple[Array, ...]]

_PIXEL_VALUES = np.arange(256, dtype=np.float32)


class ModelInput(Protocol):
    """What is read of a tensor: `edgeloop.runtime.TensorInfo` fits."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]: ...
    @property
    def affine(self) -> Affine: ...
    @property
    def index_range(self) -> tuple[int, int] | None: ...


def compile_input(spec: InputSpec, tensor: ModelInput) -> Preprocessor:
    """A function frame -> [1, ...] array in the tensor's dtype. The array is reused: valid until the next call.

    kind "image": frame is uint8 [H, W, 3] BGR as `cv2.imread` gives it, or gray [H, W] or [H, W, 1], of any size.
    kind "tensor": frame has the sample's shape; missing or extra axes of length 1 are put right.
    Raises ConfigError when contract and model do not fit; the function raises DataError for a frame that does not fit.
    """
    if spec.kind == "image":
        return _compile_image(spec, tensor)
    return _compile_tensor(spec, tensor)


def compile_inputs(specs: Sequence[InputSpec], tensors: Sequence[ModelInput]) -> SamplePreprocessor:
    """A function sample -> one array per input, as `compile_input` makes them. specs, tensors: in the model's order.

    A sample of a model with several inputs is a mapping of arrays by the contract's names. Raises as `compile_input`
    does; ConfigError, too, where their numbers differ.
    """
    if len(specs) != len(tensors):
        ours, theirs = ([repr(each.name) for each in group] for group in (specs, tensors))
        raise ConfigError(
            f"the contract describes {len(specs)} inputs ({', '.join(ours)}) and the model has {len(tensors)} "
            f"({', '.join(theirs)})",
            hint="one [input.NAME] table per input of the model",
        )
    pairs = [(spec.name, compile_input(spec, tensor)) for spec, tensor in zip(specs, tensors, strict=True)]
    if len(pairs) == 1:
        name, prepare = pairs[0]
        return lambda sample: (prepare(sample[name] if isinstance(sample, Mapping) else sample),)

    def run(sample: Sample) -> tuple[Array, ...]:
        if not isinstance(sample, Mapping):
            names = ", ".join(name for name, _ in pairs)
            raise DataError(f"the model has {len(pairs)} inputs ({names}); a sample needs an array for each, by name")
        missing = [name for name, _ in pairs if name not in sample]
        if missing:
            raise DataError(f"the sample has no array for input {missing[0]!r}")
        return tuple([prepare(sample[name]) for name, prepare in pairs])

    return run


def resize(frame: npt.NDArray[np.uint8], height: int, width: int, how: str) -> npt.NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, C] to [height, width(, C)], by area averaging when it shrinks, else bilinear.

    stretch: both axes freely; letterbox: the whole picture between gray (114) bars; crop: the largest centered part of
    the right proportions.
    """
    import cv2

    h, w = frame.shape[:2]
    if (h, w) == (height, width):
        return frame
    part, inner = fit(h, w, height, width, how)
    frame = frame[part.top : part.top + part.height, part.left : part.left + part.width]
    shrinks = height * width < part.height * part.width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = cv2.resize(frame, (inner.width, inner.height), interpolation=method)
    if how != "letterbox":
        return np.asarray(small, np.uint8)
    canvas = np.full((height, width, *frame.shape[2:]), _LETTERBOX_GRAY, np.uint8)
    rows, columns = slice(inner.top, inner.top + inner.height), slice(inner.left, inner.left + inner.width)
    canvas[rows, columns] = small.reshape(inner.height, inner.width, *frame.shape[2:])
    return canvas


_LETTERBOX_GRAY = 114


def _compile_image(spec: InputSpec, tensor: ModelInput) -> Preprocessor:
    import cv2

    assert spec.size is not None  # InputSpec checks it
    height, width = spec.size
    channels = CHANNELS[spec.color]
    expected = (1, height, width, channels)
    if tuple(tensor.shape) != expected:
        raise ConfigError(
            f"the contract's image is {list(expected)} but model input {tensor.name!r} is {list(tensor.shape)}",
            hint="set size and color in the contract to what the model takes",
        )
    out = np.empty(expected, tensor.dtype)
    plane = out[0] if channels > 1 else out[0, :, :, 0]
    convert = _color_conversion(spec.color)
    how = spec.resize
    table = pixel_table(spec, tensor)
    to_model = _table_lookup(table, plane)

    def run(frame: Array) -> Array:
        if frame.dtype != np.uint8:
            raise DataError(f"an image must be uint8 pixels, got {frame.dtype}")
        if frame.ndim not in (2, 3) or frame.size == 0:
            raise DataError(f"an image must be [height, width] or [height, width, channels], got {list(frame.shape)}")
        pixels = frame if frame.ndim == 2 or frame.shape[2] != 1 else frame[:, :, 0]
        if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
            raise DataError(f"an image must have 1, 3 or 4 channels, got {pixels.shape[2]}")
        # Resizing before the color conversion touches fewer pixels and gives the same result channel by channel.
        if pixels.shape[0] != height or pixels.shape[1] != width:
            pixels = resize(pixels, height, width, how)
        code = convert.get(1 if pixels.ndim == 2 else pixels.shape[2])
        if code is not None:
            pixels = cv2.cvtColor(pixels, code)
        to_model(pixels)
        return out

    return run


def pixel_table(spec: InputSpec, tensor: ModelInput) -> Array:
    """[256, channels] in the tensor's dtype: what each pixel value of each channel becomes at the model's input."""
    channels = CHANNELS[spec.color]
    mean = np.broadcast_to(np.asarray(spec.mean, np.float32), (channels,))
    std = np.broadcast_to(np.asarray(spec.std, np.float32), (channels,))
    values = (_PIXEL_VALUES[:, None] - mean) / std
    return quantize(values, tensor.affine, tensor.dtype)


def _table_lookup(table: Array, plane: Array) -> Callable[[Array], None]:
    """A function that writes table[pixels] into `plane`, choosing the cheapest way that gives these very values."""
    import cv2

    channels = table.shape[1]
    same_for_all = bool((table == table[:, :1]).all())
    single = np.ascontiguousarray(table[:, 0])
    if table.dtype.itemsize == 1:
        as_bytes = single.view(np.uint8)
        if same_for_all and (as_bytes == np.arange(256, dtype=np.uint8)).all():
            return lambda pixels: np.copyto(plane.view(np.uint8), pixels)
        target = plane.view(np.uint8)
        lut = as_bytes if same_for_all else np.ascontiguousarray(table.view(np.uint8).reshape(256, 1, channels))

        def lookup_bytes(pixels: Array) -> None:
            cv2.LUT(pixels, lut, target)

        return lookup_bytes
    if same_for_all:

        def lookup_one(pixels: Array) -> None:
            np.take(single, pixels, out=plane, mode="clip")  # "clip" skips the bounds check: a byte is always in range

        return lookup_one
    columns = [np.ascontiguousarray(table[:, c]) for c in range(channels)]

    def lookup_columns(pixels: Array) -> None:
        for c, column in enumerate(columns):
            plane[..., c] = column[pixels[..., c]]

    return lookup_columns


def _color_conversion(color: str) -> dict[int, int]:
    """OpenCV conversion code by the frame's channel count (1 gray, 3 BGR, 4 BGRA); absent: nothing to do."""
    import cv2

    return {
        "rgb": {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB},
        "bgr": {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR},
        "gray": {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY},
    }[color]


def _compile_tensor(spec: InputSpec, tensor: ModelInput) -> Preprocessor:
    shape = tuple(tensor.shape)
    sample_shape = shape[1:] if shape[:1] == (1,) else shape
    if spec.shape is not None and not _is_shape(spec.shape, sample_shape):
        raise ConfigError(
            f"the contract's sample is {list(spec.shape)} but model input {tensor.name!r} takes {list(sample_shape)}",
            hint="set shape in the contract to what the model takes",
        )
    channels = sample_shape[-1] if sample_shape else 1
    for key, numbers in (("mean", spec.mean), ("std", spec.std)):
        if len(numbers) not in (1, channels):
            raise ConfigError(
                f"model input {tensor.name!r}: {key} needs 1 or {channels} numbers, got {len(numbers)}",
                hint="one for all, or one for each place of the last axis",
            )
    out = np.empty(shape, tensor.dtype)
    essential = _without_units(sample_shape)
    mean = np.asarray(spec.mean if len(spec.mean) > 1 else spec.mean[0], np.float32)
    std = np.asarray(spec.std if len(spec.std) > 1 else spec.std[0], np.float32)
    plain = bool((mean == 0).all() and (std == 1).all())
    float_input = np.issubdtype(tensor.dtype, np.floating) or tensor.affine.is_quantized
    differs = spec.has_free_sizes

    def run(frame: Array) -> Array:
        if frame.shape != shape:
            if differs:
                frame = pad_to(spec, frame, sample_shape)
            elif _without_units(frame.shape) != essential:
                raise DataError(f"model input {tensor.name!r} takes {list(sample_shape)}, got {list(frame.shape)}")
            frame = frame.reshape(shape)
        if not float_input:  # token ids and the like go in as they are
            np.copyto(out, _whole(frame, tensor), casting="unsafe")
            return out
        values = frame.astype(np.float32, copy=False)
        # One pass: a sum is NaN or infinite whenever one of its terms is.
        if not np.isfinite(values.sum(dtype=np.float64)):
            raise DataError(f"input for {tensor.name!r} holds NaN or infinity")
        if not plain:
            values = (values - mean) / std
        out[...] = quantize(values, tensor.affine, tensor.dtype)
        return out

    return run


def _whole(frame: Array, tensor: ModelInput) -> Array:
    """Numbers that the integer (or bool) input can hold as they are. Raises DataError."""
    if not frame.size:
        return frame
    if frame.dtype != tensor.dtype:
        _check_whole(frame, tensor)
    if tensor.index_range is not None:
        _check_indices(frame, tensor.name, *tensor.index_range)
    return frame


def _check_whole(frame: Array, tensor: ModelInput) -> None:
    info = None if tensor.dtype.kind == "b" else np.iinfo(tensor.dtype.name)
    low, high = (0, 1) if info is None else (int(info.min), int(info.max))
    least, most = frame.min(), frame.max()
    if not (low <= least and most <= high) or (frame.dtype.kind == "f" and (frame != np.round(frame)).any()):
        raise DataError(
            f"model input {tensor.name!r} takes whole numbers ({tensor.dtype}), got {frame.dtype} {least:g}..{most:g}"
        )


def _check_indices(frame: Array, name: str, low: int, high: int) -> None:
    # The runtime fails at such an index only while it runs, as if the delegate were at fault.
    least, most = frame.min(), frame.max()
    if not (low <= least and most <= high):
        raise DataError(
            f"model input {name!r} chooses rows of a table, {low}..{high}, got {least}..{most}",
            hint="use the id that the model was trained with for what is not in its vocabulary",
        )


def _is_shape(given: tuple[int, ...], actual: tuple[int, ...]) -> bool:
    if FREE not in given:
        return _without_units(given) == _without_units(actual)
    return len(given) == len(actual) and all(a in (b, FREE) for a, b in zip(given, actual, strict=True))


def _without_units(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
