"""Schemes that make the compressed file small and keep int8's speed: few different weights in ordinary int8 kernels."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph
from edgeloop_converters.passes.codes import write_codes
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes.codebooks import Codebook, Doubles, k_means, logarithmic, uniform
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.layers import Choose, Layer, fit
from edgeloop_converters.schemes.table import SCHEMES
from edgeloop_converters.schemes.verify import Made, verified

_INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")
"""What has int4 kernels beside int8 activations."""
_SMALL_SHARE = 0.02
"""Layers that hold less of the weights (a stem, a small classifier) stay on the 8-bit grid: they save nothing."""


def int8_compact(job: Job) -> Made:
    """Weights on a grid of `bits` (4 or 5) bits, rounded by GPTQ, with bias correction."""
    bits = int(option(job, "int8-compact", "bits"))
    return _made("int8-compact", job, lambda layer, importance: uniform(bits), f"{bits}-bit grid")


def clustered(job: Job) -> Made:
    """Weights on a codebook of `clusters` values per layer: "k-means" fits it, "logarithmic" is the same for all."""
    clusters, kind = int(option(job, "clustered", "clusters")), option(job, "clustered", "codebook")

    def choose(layer: Layer, importance: Doubles) -> Codebook:
        return logarithmic(clusters) if kind == "logarithmic" else k_means(layer.rows, clusters, importance)

    return _made("clustered", job, choose, f"{clusters} values per layer, {kind}")


def int4(job: Job) -> Made:
    """As int8-compact with 4 bits, and stored in 4 bits where kernels take that."""
    compact = _made("int4", job, lambda layer, importance: uniform(4 if layer.op.name in _INT4_OPS else 8), "")
    graph = Graph.read(compact.tflite)
    for op in graph.main.ops:
        weight = graph.constant(op, 1) if op.name in _INT4_OPS else None
        if weight is not None and weight.dtype == "int8" and weight.data is not None and np.abs(weight.data).max() <= 7:
            weight.dtype = "int4"
    return verified(graph.write(), SCHEMES["int4"])


def option(job: Job, scheme: str, name: str) -> str | int:
    """What the recipe says, or the scheme's default."""
    default = SCHEMES[scheme].options[name][0]
    found: str | int = job.options.get(name, default)
    return found


def _made(name: str, job: Job, choose: Choose, what: str) -> Made:
    """int8 by the packer, then codes, scales and biases over its own."""
    assert job.ranges is not None
    packed = quantize_int8(
        job.model, job.ranges, fully_connected_per_tensor=job.per_tensor_dense, progress=job.progress
    )
    kept: list[str] = []

    def unless_small(layer: Layer, importance: Doubles) -> Codebook:
        if layer.share < _SMALL_SHARE:
            kept.append(layer.op.name)
            return uniform(8)
        return choose(layer, importance)

    fitted = fit(packed.tflite, job.model, job.samples, job.total, unless_small, job.progress, "rounding weights")
    model = write_codes(packed.tflite, job.model, fitted.weights, fitted.biases)
    levels = [len(np.unique(codes.codes)) for codes in fitted.weights.values()]
    rest = f", {len(kept)} small ones keep 8 bits" if kept else ""
    note = f"weights of {len(levels) - len(kept)} layers: {what}{rest}"
    return Made(model, name, packed.float_ops, (*packed.notes, note))
