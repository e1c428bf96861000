"""Windows and sums: pooling, reductions, resizing."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call, axis_of
from edgeloop_converters.trainable.ops.activations import fused


def average_pool_2d(tf: Any, call: Call) -> Any:
    return _pool(tf, call, tf.nn.avg_pool2d)


def max_pool_2d(tf: Any, call: Call) -> Any:
    return _pool(tf, call, tf.nn.max_pool2d)


def _pool(tf: Any, call: Call, function: Any) -> Any:
    option = call.op.option
    window, strides = [option("filterHeight"), option("filterWidth")], [option("strideH", 1), option("strideW", 1)]
    y = function(call.inputs[0], window, strides, "VALID" if option("padding") else "SAME")
    return fused(tf, y, option("fusedActivationFunction"))


def reduce(tf: Any, call: Call) -> Any:
    function = getattr(tf.math, _REDUCTIONS[call.op.name])
    return function(call.inputs[0], axis=_axes(call), keepdims=bool(getattr(call.op.options, "keepDims", False)))


_REDUCTIONS = {
    "MEAN": "reduce_mean",
    "SUM": "reduce_sum",
    "REDUCE_MAX": "reduce_max",
    "REDUCE_MIN": "reduce_min",
    "REDUCE_PROD": "reduce_prod",
}


def arg_max(tf: Any, call: Call) -> Any:
    function = tf.math.argmax if call.op.name == "ARG_MAX" else tf.math.argmin
    return function(call.inputs[0], axis=_axes(call)[0], output_type=call.dtype)


def _axes(call: Call) -> list[int]:
    return [axis_of(axis, len(call.shapes[0])) for axis in call.integers(1)]


def other_axes(call: Call) -> bool:
    """The first axis is not reduced."""
    return bool(call.outputs[0]) and bool(call.shapes[0]) and 0 not in _axes(call)


def resize_bilinear(tf: Any, call: Call) -> Any:
    return _resize(tf.raw_ops.ResizeBilinear, call)


def resize_nearest_neighbor(tf: Any, call: Call) -> Any:
    return _resize(tf.raw_ops.ResizeNearestNeighbor, call)


def _resize(function: Any, call: Call) -> Any:
    options = call.op.options
    return function(
        images=call.inputs[0],
        size=call.integers(1),
        align_corners=bool(getattr(options, "alignCorners", False)),
        half_pixel_centers=bool(getattr(options, "halfPixelCenters", False)),
    )
