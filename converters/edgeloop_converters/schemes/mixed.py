"""Mixed: every layer gets as few bits as its measured effect on the answers allows, inside int8 kernels.

One layer at a time is put on a 6-, 5- and 4-bit grid and the outputs are compared with the float model's. Then bits
are taken away where a byte costs the least error, until the errors, which are taken to add up, reach the budget. This
is a greedy form of the bit allocation in Dong et al. 2019, "HAWQ", with a measured error in place of the Hessian's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeloop_converters.passes.codes import WeightCodes
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.packed import PackedModel
from edgeloop_converters.passes.patches import LAYERS
from edgeloop_converters.schemes.codebooks import fitted_scales, uniform
from edgeloop_converters.schemes.compact import put_grids, some_samples, start
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.table import SCHEMES
from edgeloop_converters.schemes.verify import Made

BITS = (6, 5, 4)
_SAMPLES = 32
_SECONDS = 30.0


@dataclass(frozen=True)
class Cost:
    """Of one layer: weights, and the output error that each number of bits adds to int8's."""

    count: int
    error: Mapping[int, float]


def mixed(job: Job) -> Made:
    """`budget`: the added output error may be so many times that of plain int8."""
    packed, model = start(job)
    judge = OutputError(job.model, some_samples(job, _SAMPLES))
    before = judge.of(model)
    budget = float(job.options.get("budget", SCHEMES["mixed"].options["budget"][0]))
    costs = measure(model, judge, before, job)
    bits = allocate(costs, budget * before)
    put_grids(model, job, lambda name, rows, counts: uniform(bits.get(name, 8)))
    spread = ", ".join(f"{sum(b == n for b in bits.values())} layers {n}" for n in (8, *BITS) if n in bits.values())
    note = f"bits by measured error: {spread}; output error {before:.3g} as int8, {judge.of(model):.3g} now"
    return Made(model.write(), "mixed", packed.float_ops, (*packed.notes, note))


def measure(model: PackedModel, judge: OutputError, before: float, job: Job) -> dict[str, Cost]:
    """What each layer's bits cost, largest layers first; after half a minute the rest is left out and keeps 8 bits."""
    tensors = {t.name: t.data for t in model.float_graph.main.tensors if t.is_constant}
    weights = {
        tensor.name: (op, tensor)
        for op in model.graph.main.ops
        if op.name in LAYERS and (tensor := model.graph.constant(op, 1)) is not None and tensor.dtype == "int8"
    }
    until = time.monotonic() + _SECONDS
    found: dict[str, Cost] = {}
    with job.progress.step("measuring layers", total=len(weights)) as advance:
        for name, (_, tensor) in sorted(weights.items(), key=lambda item: -item[1][1].element_count):
            values = tensors.get(name)
            if values is None or tensor.quantization is None or time.monotonic() > until:
                continue
            axis = tensor.quantization.dimension
            rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64)
            errors = {}
            for bits in BITS:
                scales = fitted_scales(rows, uniform(bits), np.ones_like(rows), one=not tensor.is_per_channel)
                codes = uniform(bits).nearest(rows / np.broadcast_to(scales, (len(rows),))[:, None])
                moved = np.moveaxis(values, axis, 0).shape
                shaped = np.ascontiguousarray(np.moveaxis(codes.reshape(moved), 0, axis)).astype(np.int8)
                trial = model.copy()
                trial.set_weight(name, WeightCodes(shaped, scales.astype(np.float32), axis))
                errors[bits] = max(0.0, judge.of(trial) - before)
            found[name] = Cost(values.size, errors)
            advance(1)
    return found


def allocate(costs: Mapping[str, Cost], budget: float) -> dict[str, int]:
    """Bits of every layer, by name: from 8 for all, the step that saves most per error, while the sum fits. Pure."""
    bits = dict.fromkeys(costs, 8)
    spent = 0.0
    while True:
        steps = []
        for name, now in bits.items():
            cost = costs[name]
            for fewer in (b for b in cost.error if b < now):
                added = cost.error[fewer] - cost.error.get(now, 0.0)
                if spent + added <= budget:
                    steps.append(((now - fewer) * cost.count / max(added, 1e-12), name, fewer, added))
        if not steps:
            return bits
        _, name, fewer, added = max(steps)
        bits[name] = fewer
        spent += added
