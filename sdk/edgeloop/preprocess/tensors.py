"""Arrays into a model's input: shape, scaling and quantization, and checks of what must be whole numbers."""

from __future__ import annotations

import numpy as np

from edgeloop.affine import quantize
from edgeloop.contract import FREE, InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.padding import pad_to
from edgeloop.preprocess.model_input import Array, ModelInput, Preprocessor

_NO_NUMBERS = frozenset("OSUMmc")  # objects, texts, times, complex numbers: numpy would make something of some of them


def compile_tensor(spec: InputSpec, tensor: ModelInput) -> Preprocessor:
    """See `edgeloop.preprocess.compile_input`, kind "tensor"."""
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
        if frame.dtype.kind in _NO_NUMBERS or frame.dtype.names:
            raise DataError(f"model input {tensor.name!r} takes numbers, got an array of {frame.dtype}")
        if frame.shape != shape:
            if differs:
                frame = pad_to(spec, frame, sample_shape)
            elif _without_units(frame.shape) != essential:
                raise DataError(
                    f"model input {tensor.name!r} takes {list(sample_shape)}, got {list(frame.shape)}",
                    hint="give samples of that shape, or the model that these are for",
                )
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
