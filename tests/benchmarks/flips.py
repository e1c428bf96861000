"""Label flips: how often an int8 file answers another class than its float model, edgeloop against the peers.

Same float model, same calibration samples, same test samples, several random draws of the calibration samples; medians.
Bound from the issue: at the default effort, 100 samples, at most 0.75x the best peer. The peers: TFLiteConverter (from
the source; for the larger ResNet, of which there is only a .tflite, its quantizer on that file), ai-edge-quantizer with
its own calibration, ai-edge-quantizer from true minima and maxima.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _timing import host, shared_data, unpack_cifar

from edgeloop.affine import dequantize
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.passes.refine import refine
from edgeloop_converters.quantization import quantize_int8, quantize_int8_tflite

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """pool: what calibration samples are drawn from, test: what is judged; the same array: drawn ones are left out."""

    name: str
    source: Path
    model: bytes
    pool: Array
    test: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100, help="for calibration")
    parser.add_argument("--test", type=int, default=5000, help="images to judge by")
    parser.add_argument("--only", default="resnet8,large,kws")
    parser.add_argument("--quick", action="store_true", help="2 draws, 1,000 images, without the larger ResNet")
    args = parser.parse_args()
    if args.quick:
        args.draws, args.test, args.only = 2, 1000, "resnet8,kws"
    logging.disable(logging.WARNING)
    print(f"{args.samples} calibration samples, {args.draws} draws; {host()}")
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects(Path(scratch), args.only.split(","), args.test):
            compare(subject, args.draws, args.samples)


def compare(subject: Subject, draws: int, count: int) -> None:
    floats = labels(subject.model, subject.test)
    flips: dict[str, list[float]] = {name: [] for name in METHODS}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(subject.pool))
        calibration = [array[None] for array in subject.pool[order[:count]]]
        left = order[count:] if subject.pool is subject.test else slice(None)
        for name, method in METHODS.items():
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                made = method(subject, calibration)
            seconds[name].append(time.perf_counter() - began)
            flips[name].append(float((labels(made, subject.test[left]) != floats[left]).mean()))
    medians = {name: statistics.median(values) for name, values in flips.items()}
    best = min(PEERS, key=lambda name: medians[name])
    print(f"\n{subject.name}: {len(subject.test)} test samples, best peer {best}")
    for name, values in flips.items():
        each = " ".join(f"{100 * v:.2f}" for v in values)
        ratio = medians[name] / medians[best] if medians[best] else float("nan")
        took = statistics.median(seconds[name])
        print(f"  {name:36} {100 * medians[name]:5.2f} %  {ratio:4.2f}x  {took:5.1f} s   [{each}]", flush=True)


def subjects(scratch: Path, wanted: list[str], count: int) -> list[Subject]:
    models = shared_data() / "models" / "mlperf_tiny"
    found = []
    if {"resnet8", "large"} & set(wanted):
        train, test = images(unpack_cifar(scratch, "train"), 5000), images(unpack_cifar(scratch, "test"), count)
        if "resnet8" in wanted:
            model = to_float_tflite(models / "pretrainedResnet.tflite").tflite
            found.append(Subject("ResNet8", models / "pretrainedResnet.h5", model, train, test))
        if "large" in wanted:
            path = models / "pretrainedResnet_large_float.tflite"
            found.append(Subject("larger ResNet", path, to_float_tflite(path).tflite, train, test))
    if "kws" in wanted:
        source = models / "kws_ref_model"
        features = keywords(models)
        found.append(Subject("KWS", source, to_float_tflite(source).tflite, features, features))
    return found


def images(folder: Path, count: int) -> Array:
    """RGB 0..255 as float32 [n, 32, 32, 3], the same number of every class."""
    import cv2

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    each = count // len(classes)
    paths = [path for c in classes for path in sorted(c.glob("*.jpg"))[:each]]
    return np.stack([cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]).astype(np.float32)


def keywords(models: Path) -> Array:
    """The 600 keyword features as the real values that their codes stand for, float32 [600, 49, 10, 1]."""
    affine = Graph.read(models / "kws_ref_model.tflite").inputs[0].affine
    with np.load(shared_data() / "kws" / "kws01.npz") as archive:
        return dequantize(archive["features"], affine)[..., None]


def labels(model: bytes, samples: Array) -> Array:
    outputs = run_real(model, ((array[None],) for array in samples))[0]
    return outputs.reshape(len(samples), -1).argmax(axis=1)


def tflite_converter(subject: Subject, samples: list[Array]) -> bytes:
    if subject.source.suffix != ".tflite":
        return quantize_int8_tflite(subject.source, samples, trust_code=True).tflite
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    feed: Callable[[], Any] = lambda: ([array] for array in samples)  # noqa: E731
    return bytes(Calibrator(subject.model).calibrate_and_quantize(feed, tf.int8, tf.int8, False))


def aeq_default(subject: Subject, samples: list[Array]) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    signature = Graph.read(subject.model).signatures[0]
    name = next(iter(signature.inputs))
    packer = quantizer.Quantizer(subject.model, recipe.static_wi8_ai8())
    measured = packer.calibrate({signature.key: [{name: array} for array in samples]})
    return bytes(packer.quantize(measured, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def aeq_min_max(subject: Subject, samples: list[Array]) -> bytes:
    return quantize_int8(subject.model, calibrate(subject.model, samples, method="min-max")).tflite


def edgeloop_fast(subject: Subject, samples: list[Array]) -> bytes:
    return quantize_int8(subject.model, calibrate(subject.model, samples)).tflite


def edgeloop_default(subject: Subject, samples: list[Array]) -> bytes:
    return _refined(subject, samples, "default")


def _refined(subject: Subject, samples: list[Array], effort: str) -> bytes:
    ranges = calibrate(subject.model, samples)
    packed = quantize_int8(subject.model, ranges).tflite
    rows = [(array,) for array in samples]
    return refine(subject.model, packed, ranges, rows, effort=effort, progress=SilentProgress()).tflite


PEERS = {
    "TFLiteConverter": tflite_converter,
    "ai-edge-quantizer, its calibration": aeq_default,
    "ai-edge-quantizer, min/max": aeq_min_max,
}
METHODS: dict[str, Callable[[Subject, list[Array]], bytes]] = {
    **PEERS,
    "edgeloop --effort fast": edgeloop_fast,
    "edgeloop, default effort": edgeloop_default,
}


if __name__ == "__main__":
    main()
