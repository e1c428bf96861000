"""`npz:FILE`: the samples of an .npz, through the safe reader; uncompressed files are mapped, never loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeloop.errors import DataError
from edgeloop.npz import Npz
from edgeloop_agent.sources import SourceSpec, Wanted

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame

SAMPLE_KEYS = ("x", "features", "images", "data")
MAX_LOADED_BYTES = 256 << 20  # a compressed array has to be in memory as a whole


class NpzSource:
    """Samples of `x` (or `features`, `images`, `data`), in order.

    For a contract of kind "image", uint8 samples with 3 channels are RGB, as the converter reads them.
    """

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        with Npz(Path(spec.path), max_array_bytes=MAX_LOADED_BYTES) as archive:
            key = next((k for k in SAMPLE_KEYS if k in archive.headers), None)
            if key is None:
                have = ", ".join(sorted(archive.headers)) or "nothing"
                raise DataError(f"source {spec}: no samples: it holds {have}", hint="call the array of samples x")
            header = archive.headers[key]
            if header.dtype.kind not in "biuf":
                raise DataError(f"source {spec}: '{key}' holds {header.dtype}, not numbers")
            if not header.shape or header.nbytes == 0:
                raise DataError(f"source {spec}: '{key}' is empty (shape {list(header.shape)})")
            samples = archive.array(key)
        # A plain view: indexing an np.memmap makes a memmap object per frame, which costs more than the read.
        self._samples = np.asarray(samples)
        self._base = Path(spec.path).name
        self._loop = loop
        self._next = skip % len(samples) if loop else skip
        self._flip = wanted.input.kind == "image" and samples.dtype == np.uint8 and samples.shape[3:] == (3,)

    def read(self) -> tuple[Frame, str] | None:
        at = self._next
        if at >= len(self._samples):
            if not self._loop:
                return None
            at = 0
        self._next = at + 1
        sample = self._samples[at]
        if self._flip:
            sample = np.ascontiguousarray(sample[..., ::-1])
        return sample, f"{self._base}[{at}]"

    def close(self) -> None:
        self._samples = self._samples[:0]
