"""Whether a file's channels are scaled otherwise than its float model's, as cross-layer equalization leaves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op, Tensor

_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_CLEARLY_OTHER = 1.25
"""Ratio of norms: 4-bit rounding changes a channel's norm by a few percent, equalization by far more."""


def is_scaled_otherwise(float_model: bytes, model: bytes) -> bool:
    """True where a layer's output channels have clearly other norms in `model` than in `float_model`: its inner
    tensors then stand for others, and comparing them says nothing. False where the layers cannot be told apart.
    """
    ours, theirs = _norms(Graph.read(model)), _norms(Graph.read(float_model))
    for name, norms in ours.items():
        wanted = theirs.get(name)
        if wanted is None or wanted.shape != norms.shape:
            continue
        known = wanted > 1e-3 * wanted.max(initial=0.0)
        ratios = norms[known] / wanted[known]
        if ratios.size and (ratios.max() > _CLEARLY_OTHER or ratios.min() < 1 / _CLEARLY_OTHER):
            return True
    return False


def _norms(graph: Graph) -> dict[str, npt.NDArray[np.float64]]:
    """Output tensor of a layer, the first part of its name -> norm of each output channel's weights."""
    found = {}
    for op in graph.main.ops:
        weight = graph.constant(op, 1) if op.name in _WEIGHTED else None
        if weight is not None and weight.data is not None and weight.dtype in ("float32", "int8"):
            found[graph.main.tensors[op.outputs[0]].name.split(";", 1)[0]] = _channel_norms(op, weight)
    return found


def _channel_norms(op: Op, weight: Tensor) -> npt.NDArray[np.float64]:
    axis = weight.data.ndim - 1 if op.name == "DEPTHWISE_CONV_2D" and weight.data is not None else 0
    values: npt.NDArray[Any] = np.moveaxis(np.asarray(weight.data), axis, 0)
    rows = values.reshape(len(values), -1).astype(np.float64)
    if weight.dtype == "int8" and weight.quantization is not None:
        rows *= np.broadcast_to(weight.quantization.scale.astype(np.float64), (len(rows),))[:, None]
    return np.asarray(np.linalg.norm(rows, axis=1))
