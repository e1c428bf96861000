"""Rungs that only change constants: other ranges, corrected biases, weights rounded with feedback. Speed stays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeloop.affine import Affine
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.passes.codes import WEIGHTED_OPS, float_biases, operands
from edgeloop_converters.passes.packed import Group, PackedModel
from edgeloop_converters.passes.rounding import round_weights
from edgeloop_converters.repair.judge import Judge
from edgeloop_converters.repair.records import Score

METHODS = ("grouped", "min-max", "mse", "percentile")
"""Entropy is not tried: it is known to collapse."""
WIDE_FACTORS = (0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 4.0)
"""Of the ends of a range: the refinement has looked nearby, a guilty range may be far off."""


@dataclass(frozen=True)
class Fitting:
    """What a rung may use. trial: scores candidates on samples that the rung fits to. until: on time.monotonic().

    methods: how many of METHODS are tried.
    """

    float_model: bytes
    trial: Judge
    until: float
    seed: int
    methods: int
    progress: Progress


def ranges_of(graph: Graph) -> Ranges:
    """What the codes of every int8 activation can say."""
    return Ranges(
        {
            t.name: _range(t.affine)
            for t in graph.main.tensors
            if t.dtype == "int8" and t.affine.is_quantized and not t.is_constant
        },
        0,
    )


def opened(float_model: bytes, model: bytes) -> PackedModel:
    """An exported file with its own ranges and corrected biases, whatever passes it went through."""
    packed = PackedModel(float_model, model, ranges_of(Graph.read(model)))
    sources = float_biases(packed.graph, packed.float_graph)
    for op in packed.graph.main.ops:
        position = operands(op)[1] if op.name in WEIGHTED_OPS else len(op.inputs)
        source = sources.get(op.inputs[position]) if position < len(op.inputs) else None
        bias = packed.graph.constant(op, position)
        if source is not None and bias is not None and bias.data is not None and bias.quantization is not None:
            packed.biases[source.name] = np.asarray(bias.data, np.float32) * bias.quantization.scale
    return packed


def other_ranges(model: PackedModel, fitting: Fitting, suspects: Sequence[str]) -> str:
    """The best of the calibration methods, then a wide search over the ranges of `suspects` (tensor names), in place.

    Returns what was done.
    """
    best, said = fitting.trial.of(model.graph), ""
    for method in METHODS[: fitting.methods]:
        if time.monotonic() > fitting.until:
            break
        candidate = model.copy()
        _set_all(candidate, calibrate(fitting.float_model, fitting.trial.samples, method=method))
        score = fitting.trial.of(candidate.graph)
        if score.is_better_than(best):
            best, said = score, f"{method} for all"
            kept = candidate
    if said:
        for group in model.groups:
            model.set_range(group, kept.range_of(group))
    changed = _search(model, fitting, [g for g in model.groups if g.name in suspects], best)
    return f"{said or 'the same calibration'}, {changed} of {len(suspects)} suspected ranges set by a wide search"


def _search(model: PackedModel, fitting: Fitting, groups: Sequence[Group], best: Score) -> int:
    """Coordinate descent over the ends of these ranges, in place; how many changed."""
    changed = 0
    for group in groups:
        original = model.range_of(group)
        for end in (0, 1):
            base = keep = model.range_of(group)
            for factor in WIDE_FACTORS if base[end] else ():
                if time.monotonic() > fitting.until:
                    break
                value = (base[0] * factor, base[1]) if end == 0 else (base[0], base[1] * factor)
                model.set_range(group, value)
                score = fitting.trial.of(model.graph)
                if score.is_better_than(best):
                    best, keep = score, value
            model.set_range(group, keep)
        changed += model.range_of(group) != original
    return changed


def corrected_biases(model: PackedModel, fitting: Fitting) -> str:
    report = round_weights(
        model, fitting.trial.samples, rounding=False, seed=fitting.seed, deadline_s=fitting.until,
        progress=fitting.progress,
    )  # fmt: skip
    return report.detail


def rounded_weights(model: PackedModel, fitting: Fitting) -> str:
    report = round_weights(
        model, fitting.trial.samples, seed=fitting.seed, deadline_s=fitting.until, progress=fitting.progress
    )
    return report.detail


def _set_all(model: PackedModel, ranges: Ranges) -> None:
    for group in model.groups:
        if group.name in ranges.tensors:
            model.set_range(group, ranges.tensors[group.name])


def _range(affine: Affine) -> tuple[float, float]:
    return affine.scale * (-128 - affine.zero_point), affine.scale * (127 - affine.zero_point)
