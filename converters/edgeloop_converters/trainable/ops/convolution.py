"""Convolutions. The file has weights as [out, height, width, in]; TensorFlow wants [height, width, in, out]."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call
from edgeloop_converters.trainable.ops.activations import fused


def conv_2d(tf: Any, call: Call) -> Any:
    x, weights, strides = call.inputs[0], tf.transpose(call.inputs[1], (1, 2, 3, 0)), _pair(call, "stride")
    return _finish(tf, call, tf.nn.conv2d(x, weights, strides, _padding(call), dilations=_dilations(call)), 2)


def depthwise_conv_2d(tf: Any, call: Call) -> Any:
    """Weights [1, height, width, channels * multiplier], the multiplier varying fastest."""
    height, width, outputs = call.shapes[1][1:]
    channels = call.shapes[0][3]
    weights = tf.reshape(call.inputs[1], (height, width, channels, outputs // channels))
    strides, dilations = _pair(call, "stride"), _dilations(call)
    if max(strides) > 1 and max(dilations) > 1:  # TensorFlow has either
        weights, dilations = _spread(tf, weights, dilations), [1, 1]
    y = tf.nn.depthwise_conv2d(call.inputs[0], weights, [1, *strides, 1], _padding(call), dilations=dilations)
    return _finish(tf, call, y, 2)


def transpose_conv(tf: Any, call: Call) -> Any:
    x = call.inputs[2]
    weights = tf.transpose(call.inputs[1], (1, 2, 0, 3))
    leading = call.outputs[0][0] if call.exact else tf.shape(x)[0]
    shape = tf.stack([leading, *call.outputs[0][1:]])
    y = tf.nn.conv2d_transpose(x, weights, shape, _pair(call, "stride"), _padding(call))
    return _finish(tf, call, y, 3)


def _finish(tf: Any, call: Call, y: Any, bias: int) -> Any:
    if call.given(bias):
        y = tf.nn.bias_add(y, call.inputs[bias])
    return fused(tf, y, call.op.option("fusedActivationFunction"))


def _pair(call: Call, what: str) -> list[int]:
    return [call.op.option(f"{what}H", 1), call.op.option(f"{what}W", 1)]


def _dilations(call: Call) -> list[int]:
    return [max(1, call.op.option(f"dilation{axis}Factor", 1)) for axis in "HW"]


def _padding(call: Call) -> str:
    return "VALID" if call.op.option("padding") else "SAME"


def _spread(tf: Any, weights: Any, dilations: list[int]) -> Any:
    """The kernel with its holes written out as zeros."""
    for axis, factor in enumerate(dilations):
        shape = [int(n) for n in weights.shape]
        weights = tf.expand_dims(weights, axis + 1)
        weights = tf.pad(weights, [(0, factor - 1) if i == axis + 1 else (0, 0) for i in range(5)])
        shape[axis] *= factor
        weights = tf.reshape(weights, shape)
        weights = tf.gather(weights, range(shape[axis] - factor + 1), axis=axis)
    return weights
