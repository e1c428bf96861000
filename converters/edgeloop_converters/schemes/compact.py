"""Schemes that make the compressed file small and keep int8's speed: few different weights in ordinary int8 kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph
from edgeloop_converters.passes.packed import PackedModel, weighted_ops
from edgeloop_converters.passes.rounding import ChooseGrid, Grid, round_weights
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes.codebooks import Codebook, Doubles, fitted_scales, k_means, logarithmic, uniform
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.table import SCHEMES
from edgeloop_converters.schemes.verify import Made, verified

Choose = Callable[[Doubles, Doubles], Codebook]
"""(float weights [outputs, columns], how much an error of each counts) -> the layer's codebook."""

SAMPLES = 128
_ROWS = 8192
_INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")
"""What has int4 kernels beside int8 activations."""
_SMALL_SHARE = 0.03


def int8_compact(job: Job) -> Made:
    """Weights on a grid of `bits` (5 or 4) bits, rounded by GPTQ, with bias correction."""
    bits = int(_option(job, "int8-compact", "bits"))
    return _made("int8-compact", job, lambda rows, importance: uniform(bits), f"{bits}-bit grid")


def clustered(job: Job) -> Made:
    """Weights on a codebook of `clusters` values per layer: "k-means" fits it, "logarithmic" is the same for all."""
    clusters, kind = int(_option(job, "clustered", "clusters")), _option(job, "clustered", "codebook")

    def choose(rows: Doubles, importance: Doubles) -> Codebook:
        return logarithmic(clusters) if kind == "logarithmic" else k_means(rows, clusters, importance)

    return _made("clustered", job, choose, f"{clusters} values per layer, {kind}")


def int4(job: Job) -> Made:
    """As int8-compact with 4 bits, and stored in 4 bits where kernels take that."""
    compact = _made("int4", job, lambda rows, importance: uniform(4), "")
    graph = Graph.read(compact.tflite)
    for op in graph.main.ops:
        weight = graph.constant(op, 1) if op.name in _INT4_OPS else None
        if weight is not None and weight.dtype == "int8" and weight.data is not None and np.abs(weight.data).max() <= 7:
            weight.dtype = "int4"
    return verified(graph.write(), SCHEMES["int4"])


def _option(job: Job, scheme: str, name: str) -> str | int:
    """What the recipe says, or the scheme's default."""
    default = SCHEMES[scheme].options[name][0]
    found: str | int = job.options.get(name, default)
    return found


def _made(name: str, job: Job, choose: Choose, what: str) -> Made:
    """int8 by the packer, then codes, scales and biases over its own.

    A range search before or after gains nothing here: the weights' error is several times that of the ranges.
    """
    packed, model = start(job)
    kept = eight_bit_layers(model.graph)
    put_grids(model, job, lambda weights, rows, counts: uniform(8) if weights in kept else choose(rows, counts))
    rest = f"; {len(kept)} small or depthwise ones keep 8 bits" if kept else ""
    note = f"weights of {len(set(model.weights) - kept)} layers: {what}{rest}"
    return Made(model.write(), name, packed.float_ops, (*packed.notes, note))


def start(job: Job) -> tuple[Made, PackedModel]:
    """Plain int8, and the same opened for other weights."""
    assert job.ranges is not None
    packed = quantize_int8(
        job.model, job.ranges, fully_connected_per_tensor=job.per_tensor_dense, progress=job.progress
    )
    return packed, PackedModel(job.model, packed.tflite, job.ranges)


def put_grids(model: PackedModel, job: Job, choose: Callable[[str, Doubles, Doubles], Codebook]) -> None:
    """Round every layer to its codebook, in place. choose: (name of the weights, and as `Choose`)."""
    grid = grids(model, choose)
    round_weights(model, some_samples(job, SAMPLES), grid=grid, rows=_ROWS, progress=job.progress)


def grids(model: PackedModel, choose: Callable[[str, Doubles, Doubles], Codebook]) -> ChooseGrid:
    """Codebooks with fitted scales, one per channel where the packer had one per channel."""
    per_channel = {t.name: t.is_per_channel for t in model.graph.main.tensors if t.is_constant}

    def grid(weights: str, rows: Doubles, importance: Doubles) -> Grid:
        codebook = choose(weights, rows, importance)
        return Grid(fitted_scales(rows, codebook, importance, one=not per_channel[weights]), codebook.nearest)

    return grid


def eight_bit_layers(graph: Graph) -> frozenset[str]:
    """Weights that stay on the 8-bit grid: those of depthwise layers, which have few and need them, and the smallest
    layers (a stem, a small classifier) that together hold at most 3 % of the weights.
    """
    weights = {t.name: (t.element_count, op.name) for op in weighted_ops(graph) if (t := graph.constant(op, 1))}
    return _kept(weights)


def _kept(weights: Mapping[str, tuple[int, str]]) -> frozenset[str]:
    """weights: name -> (number of values, name of the op)."""
    depthwise = {name for name, (_, op) in weights.items() if op == "DEPTHWISE_CONV_2D"}
    others = {name: count for name, (count, _) in weights.items() if name not in depthwise}
    if not others:
        return frozenset()
    left = _SMALL_SHARE * sum(others.values())
    kept = set(depthwise)
    for name, count in sorted(others.items(), key=lambda item: item[1]):
        left -= count
        if left < 0:
            break
        kept.add(name)
    return frozenset(kept)


def some_samples(job: Job, most: int) -> list[tuple[npt.NDArray[Any], ...]]:
    """At most so many of the calibration samples, evenly: they may come sorted by class."""
    wanted = set(np.linspace(0, max(job.total, 1) - 1, min(most, max(job.total, 1))).astype(int).tolist())
    return [tuple([np.array(a) for a in arrays]) for i, arrays in enumerate(job.samples()) if i in wanted]
