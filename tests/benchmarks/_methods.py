"""Ways to int8 that are compared: the peers' and ours. Same float model, same calibration samples.

The peers' files are kept in a cache by everything that they depend on, so that a second run is about ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.graph import Graph
from edgeloop.paths import cache_dir
from edgeloop.progress import SilentProgress

Array = np.ndarray[Any, Any]

TFLITE, AEQ, AEQ_MIN_MAX = "TFLiteConverter", "ai-edge-quantizer, its calibration", "ai-edge-quantizer, min/max"
FAST, DEFAULT, BEST = "edgeloop --effort fast", "edgeloop", "edgeloop --effort best"
PEERS = (TFLITE, AEQ, AEQ_MIN_MAX)
OURS = {FAST: "fast", DEFAULT: "default", BEST: "best"}


@dataclass(frozen=True)
class Start:
    """source: the trained model; model: the float .tflite of it; samples: calibration inputs [1, ...]."""

    source: Path
    model: bytes
    samples: Sequence[Array]


def quantized(method: str, start: Start, *, cached: bool = True) -> bytes:
    """The int8 file by one of PEERS or OURS, without what the libraries print."""
    if method in OURS:
        return _quietly(lambda: ours(start, OURS[method]))
    file = cache_dir() / "benchmarks" / f"{_key(method, start)}.tflite"
    if cached and file.is_file():
        return file.read_bytes()
    made = _quietly(lambda: _PEERS[method](start))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(made)
    return made


def _quietly(make: Callable[[], bytes]) -> bytes:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return make()
    finally:
        logging.disable(before)


def _key(method: str, start: Start) -> str:
    library = "tensorflow" if method == TFLITE else "ai-edge-quantizer"
    digest = hashlib.sha256(f"{method} {library} {version(library)} {start.source.name}".encode())
    digest.update(start.model)
    for array in start.samples:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def tflite_converter(start: Start) -> bytes:
    """From the source; its quantizer alone where the source is a .tflite."""
    from edgeloop_converters.quantization import quantize_int8_tflite

    if start.source.suffix != ".tflite":
        return quantize_int8_tflite(start.source, start.samples, trust_code=True).tflite
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    feed: Callable[[], Any] = lambda: ([array] for array in start.samples)  # noqa: E731
    return bytes(Calibrator(start.model).calibrate_and_quantize(feed, tf.int8, tf.int8, False))


def aeq(start: Start) -> bytes:
    """ai-edge-quantizer as its documentation has it: its recipe, its calibration (a moving average)."""
    from ai_edge_quantizer import quantizer, recipe

    signature = Graph.read(start.model).signatures[0]
    name = next(iter(signature.inputs))
    packer = quantizer.Quantizer(start.model, recipe.static_wi8_ai8())
    measured = packer.calibrate({signature.key: [{name: array} for array in start.samples]})
    return bytes(packer.quantize(measured, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def aeq_min_max(start: Start) -> bytes:
    """ai-edge-quantizer with the true minima and maxima."""
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.quantization import quantize_int8

    return quantize_int8(start.model, calibrate(start.model, start.samples, method="min-max")).tflite


def ours(start: Start, effort: str, seed: int = 0) -> bytes:
    """What `convert` does between the float model and the file."""
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.passes.flips import judge_by_flips
    from edgeloop_converters.passes.refine import refine
    from edgeloop_converters.quantization import quantize_int8

    ranges = calibrate(start.model, start.samples)
    packed = quantize_int8(start.model, ranges).tflite
    if effort == "fast":
        return packed
    rows = [(array,) for array in start.samples]
    refined = refine(start.model, packed, ranges, rows, effort=effort, seed=seed, progress=SilentProgress())
    return judge_by_flips(start.model, packed, refined, rows)[0]


_PEERS: dict[str, Callable[[Start], bytes]] = {TFLITE: tflite_converter, AEQ: aeq, AEQ_MIN_MAX: aeq_min_max}
