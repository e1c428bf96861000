"""Fake quantization: values are rounded as the int8 file will round them, while gradients pass as if they were not.

Jacob et al. 2018, section 3.1. Activations: clip to [low, high], then x -> s * round(x / s) with s = (high - low) / 255
and 0 on the grid; weights: s = max|w| / 127 per channel, or fewer codes; biases: s = s of the input * s of the weights.
(Biases matter: without theirs a thousandth of the first layer's codes differ from the file's, and a third of a late
convolution's.) Gradients pass straight through the rounding (Bengio et al. 2013) and stop where it clips; there they
go to the range's end, if ranges are learnt.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Op
from edgeloop_converters.passes.codes import WEIGHTED_OPS, WeightCodes, operands
from edgeloop_converters.passes.packed import PackedModel, weighted_ops
from edgeloop_converters.trainable.hooks import Hooks

Floats = npt.NDArray[np.float32]
Range = tuple[float, float]

LEARNT, MOVING = "learnt", "moving"
RANGES = (LEARNT, MOVING)
_MOVING_MEMORY = 0.99
_SMALLEST = 1e-9
_MOVES_ONLY = frozenset({
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "MAX_POOL_2D",
    "PACK", "UNPACK", "GATHER", "TILE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
})  # fmt: skip
"""What they give lies on the grid of what they took."""


@dataclass(frozen=True)
class Weight:
    """Where a weight's scales lie: along `axis`, or one for all (None)."""

    axis: int | None


class FakeQuantizer:
    """For the tensors that `packed`, the float model quantized, holds as int8.

    ranges: "learnt" by gradients, as factors of the calibrated ones, or "moving": the mean of the batches' extremes.
    bits: of weights by name, 8 where not named. layers: outputs of ops and weights that are rounded now; None: all.
    """

    def __init__(
        self,
        tf: Any,
        packed: PackedModel,
        *,
        ranges: str = LEARNT,
        bits: Mapping[str, int] | None = None,
        layers: Collection[str] | None = None,
        shared: FakeQuantizer | None = None,
    ) -> None:
        """shared: one whose ranges this one goes on with."""
        self._tf, self._packed, self._ranges = tf, packed, ranges
        self._bits, self._layers = dict(bits or {}), None if layers is None else frozenset(layers)
        main = packed.graph.main
        self._group_of = {
            main.tensors[i].name: number for number, group in enumerate(packed.groups) for i in group.members
        }
        self._fixed: dict[str, Range] = {}
        for tensor in main.tensors:
            if tensor.dtype == "int8" and not tensor.is_constant and tensor.affine.is_quantized:
                affine = tensor.affine
                low, high = (affine.scale * (code - affine.zero_point) for code in (-128, 127))
                if tensor.name not in self._group_of:
                    self._fixed[tensor.name] = low, high
        self._weights = {}
        for op in weighted_ops(packed.graph):
            tensor = main.tensors[op.inputs[operands(op)[0]]]
            assert tensor.quantization is not None
            many = tensor.quantization.scale.size > 1
            self._weights[tensor.name] = Weight(tensor.quantization.dimension if many else None)
        self._redundant = {
            main.tensors[i].name
            for op in main.ops
            if op.name in _MOVES_ONLY
            for i in op.outputs
            if main.tensors[i].affine == main.tensors[op.inputs[1 if op.name == "SPLIT" else 0]].affine
        }
        names = [tensor.name for tensor in packed.float_graph.main.tensors]
        self._biases = {
            op.outputs[0]: (operands(op)[1], names[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]], weight)
            for op in packed.float_graph.main.ops
            if op.name in WEIGHTED_OPS and (weight := names[op.inputs[operands(op)[0]]]) in self._weights
        }
        starts = np.array([packed.range_of(group) for group in packed.groups], np.float32).reshape(-1, 2)
        starts = np.stack([np.minimum(starts[:, 0], 0), np.maximum(starts[:, 1], 0)], axis=1)
        self._starts = starts
        self._factors: Any = shared._factors if shared is not None else tf.Variable(np.zeros_like(starts))
        self._moving: Any = shared._moving if shared is not None else tf.Variable(starts)
        learnt = ranges == LEARNT and len(starts) > 0
        self.variables: Mapping[str, Any] = {"range factors": self._factors} if learnt else {}
        self.state: Mapping[str, Any] = {"moving ranges": self._moving} if ranges == MOVING and len(starts) else {}
        told = [ranges, sorted(self._bits.items()), None if self._layers is None else sorted(self._layers)]
        self.identity = json.dumps(told)

    def hooks(self, learning: bool) -> Hooks:
        return _Rounding(self, learning)

    def ranges(self) -> list[Range]:
        """Of the packed model's groups, as they are learnt now."""
        if self._ranges == MOVING:
            values = self._moving.numpy()
        else:
            values = self._starts * np.exp(self._factors.numpy())
        return [(float(low), float(high)) for low, high in values]

    def codes(self, name: str, values: Floats) -> WeightCodes:
        """A weight's codes and scales, the same that `hooks` rounds to."""
        weight = self._weights[name]
        levels = self._levels(name)
        axes = tuple(i for i in range(values.ndim) if i != weight.axis)
        largest = np.abs(values).max(axis=axes, keepdims=True)
        scales = (np.maximum(largest, np.float32(_SMALLEST)) / np.float32(levels)).astype(np.float32)
        codes = np.clip(np.rint(values / scales), -levels, levels).astype(np.int8)
        return WeightCodes(codes, scales.reshape(-1), weight.axis or 0)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights that are int8 in the file."""
        return tuple(self._weights)

    def _levels(self, name: str) -> int:
        return int(2 ** (self._bits.get(name, 8) - 1)) - 1

    def _active(self, name: str) -> bool:
        return self._layers is None or name in self._layers


class _Rounding(Hooks):
    def __init__(self, of: FakeQuantizer, learning: bool) -> None:
        self._of, self._learning = of, learning
        self._weight_scales: dict[str, Any] = {}
        self._value_scales: dict[str, Any] = {}

    def weight(self, name: str, value: Any) -> Any:
        of, tf = self._of, self._of._tf
        weight = of._weights.get(name)
        if weight is None or not of._active(name):
            return value
        levels = float(of._levels(name))
        axes = [i for i in range(value.shape.rank) if i != weight.axis]
        scales = tf.maximum(tf.reduce_max(tf.abs(value), axis=axes, keepdims=True), _SMALLEST) / levels
        self._weight_scales[name] = tf.reshape(scales, [-1])
        rounded = tf.clip_by_value(tf.round(value / scales), -levels, levels) * scales
        return value + tf.stop_gradient(rounded - value)

    def operand(self, op: Op, position: int, value: Any) -> Any:
        """Biases are int32 codes."""
        tf = self._of._tf
        at, source, weight = self._of._biases.get(op.outputs[0], (-1, "", ""))
        if position != at or value is None or source not in self._value_scales or weight not in self._weight_scales:
            return value
        step = self._value_scales[source] * self._weight_scales[weight]
        return value + tf.stop_gradient(tf.round(value / step) * step - value)

    def computed(self, name: str, value: Any) -> Any:
        of, tf = self._of, self._of._tf
        group = of._group_of.get(name)
        if not of._active(name) or value.dtype != tf.float32 or (group is None and name not in of._fixed):
            return value
        if group is None:
            low, high = of._fixed[name]
            self._value_scales[name] = (high - low) / 255
            return tf.quantization.fake_quant_with_min_max_vars(value, low, high)
        if of._ranges == MOVING:
            if self._learning:
                seen = tf.stack([tf.minimum(tf.reduce_min(value), 0.0), tf.maximum(tf.reduce_max(value), 0.0)])
                mixed = _MOVING_MEMORY * of._moving[group] + (1 - _MOVING_MEMORY) * tf.stop_gradient(seen)
                of._moving.scatter_nd_update([[group]], mixed[None])
            low, high = tf.unstack(of._moving[group])
        else:
            low, high = tf.unstack(of._starts[group] * tf.exp(of._factors[group]))
        high = tf.maximum(high, low + _SMALLEST)
        self._value_scales[name] = (high - low) / 255
        if name in of._redundant:
            return value
        return tf.quantization.fake_quant_with_min_max_vars(value, low, high)
