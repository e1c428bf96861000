"""`npz:FILE`: the samples of an .npz, through the safe reader; uncompressed files are mapped, never loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeloop.errors import DataError
from edgeloop.npz import Npz
from edgeloop_agent.sources import SourceSpec, Wanted

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame

SAMPLE_KEYS = ("x", "features", "images", "data")
MAX_LOADED_BYTES = 256 << 20  # a compressed array has to be in memory as a whole


class NpzSource:
    """Samples of `x` (or `features`, `images`, `data`, or the array called as the model's input), in order; for a model
    with several inputs one array for each, called as the input.

    For a contract of kind "image", uint8 samples with 3 channels are RGB, as the converter reads them. notes: which
    array is taken, where several could be meant.
    """

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        names = [each.input.name for each in wanted.every]
        with Npz(Path(spec.path), max_array_bytes=MAX_LOADED_BYTES) as archive:
            keys = [_key(archive, name, spec, is_only=not wanted.others) for name in names]
            arrays = [_array(archive, key, spec) for key in keys]
            self.notes = () if wanted.others else _others_left(archive, names[0], keys[0])
        lengths = {len(array) for array in arrays}
        if len(lengths) != 1:
            listed = ", ".join(f"{key} {len(array)}" for key, array in zip(keys, arrays, strict=True))
            raise DataError(f"source {spec}: arrays of different lengths ({listed})", hint="one row per sample in each")
        self._arrays = arrays
        self._names = names
        self._flips = [
            each.input.kind == "image" and array.dtype == np.uint8 and array.shape[3:] == (3,)
            for each, array in zip(wanted.every, arrays, strict=True)
        ]
        self._base = Path(spec.path).name
        self._loop = loop
        self._size = lengths.pop()
        self._next = skip % self._size if loop else skip

    def read(self) -> tuple[Any, str] | None:
        at = self._next
        if at >= self._size:
            if not self._loop:
                return None
            at = 0
        self._next = at + 1
        name = f"{self._base}[{at}]"
        if len(self._arrays) == 1:
            return self._sample(0, at), name
        return {key: self._sample(i, at) for i, key in enumerate(self._names)}, name

    def close(self) -> None:
        self._arrays, self._size = [], 0

    def _sample(self, i: int, at: int) -> Frame:
        sample = self._arrays[i][at]
        return np.ascontiguousarray(sample[..., ::-1]) if self._flips[i] else np.asarray(sample)


def _others_left(archive: Npz, name: str, taken: str) -> tuple[str, ...]:
    others = [key for key in dict.fromkeys((*SAMPLE_KEYS, *_called(name))) if key in archive.headers and key != taken]
    return (f"the samples are '{taken}', not {' or '.join(map(repr, others))}",) if others else ()


def _called(name: str) -> tuple[str, str]:
    """What the array of an input may be called: TensorFlow's `serving_default_NAME:0` is found by NAME, too."""
    return name, name.removeprefix("serving_default_").partition(":")[0]


def _key(archive: Npz, name: str, spec: SourceSpec, *, is_only: bool) -> str:
    wanted = (*SAMPLE_KEYS, *_called(name)) if is_only else _called(name)
    key = next((k for k in wanted if k in archive.headers), None)
    if key is not None:
        return key
    have = ", ".join(sorted(archive.headers)) or "nothing"
    if is_only:
        raise DataError(f"source {spec}: no samples: it holds {have}", hint="call the array of samples x")
    raise DataError(f"source {spec}: no array for input '{name}': it holds {have}", hint="one array per input")


def _array(archive: Npz, key: str, spec: SourceSpec) -> Frame:
    header = archive.headers[key]
    if header.dtype.kind not in "biuf":
        raise DataError(f"source {spec}: '{key}' holds {header.dtype}, not numbers")
    if not header.shape or header.nbytes == 0:
        raise DataError(f"source {spec}: '{key}' is empty (shape {list(header.shape)})")
    # A plain view: indexing an np.memmap makes a memmap object per frame, which costs more than the read.
    return np.asarray(archive.array(key))
