"""One scale per FULLY_CONNECTED weight, whoever wrote the file: the Edge TPU compiler takes no other."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor

_BITS8 = 127
_PER_TENSOR_VERSION = 4


def one_scale_per_dense_layer(graph: Graph) -> int:
    """Round int8 weights that have a scale per output to the widest of these scales, their bias with them. Returns how
    many layers were changed.

    Exact but for that rounding: real = scale * code on both sides, and the bias keeps input scale * weight scale.
    """
    changed = 0
    for subgraph in graph.subgraphs:
        done: set[int] = set()
        for op in subgraph.ops:
            if op.name != "FULLY_CONNECTED" or len(op.inputs) < 2:
                continue
            weights = subgraph.tensors[op.inputs[1]]
            if id(weights) in done:
                op.version = min(op.version, _PER_TENSOR_VERSION)
            elif weights.is_per_channel and weights.dtype == "int8" and weights.data is not None:
                _round(op, subgraph, weights)
                done.add(id(weights))
                changed += 1
    return changed


def _round(op: Op, subgraph: Subgraph, weights: Tensor) -> None:
    assert weights.data is not None and weights.quantization is not None
    old = weights.quantization.scale.astype(np.float64)
    real = weights.data.astype(np.float64) * old[:, None]
    scale = max(float(np.abs(real).max(initial=0.0)) / _BITS8, float(np.finfo(np.float32).tiny))
    weights.data = np.clip(np.rint(real / scale), -_BITS8, _BITS8).astype(np.int8)
    weights.quantization = Quantization.per_tensor(scale)
    op.version = min(op.version, _PER_TENSOR_VERSION)
    position = op.inputs[2] if len(op.inputs) > 2 else -1
    if position < 0:
        return
    bias, source = subgraph.tensors[position], subgraph.tensors[op.inputs[0]]
    if bias.data is None or bias.data.dtype != np.int32:
        return
    limits = np.iinfo(np.int32)
    codes = np.rint(bias.data.astype(np.float64) * old / scale)
    bias.data = np.clip(codes, limits.min, limits.max).astype(np.int32)
    bias.quantization = Quantization.per_tensor(source.affine.scale * scale)
