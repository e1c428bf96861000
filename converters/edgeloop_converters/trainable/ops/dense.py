"""Matrix products."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call
from edgeloop_converters.trainable.ops.activations import fused


def fully_connected(tf: Any, call: Call) -> Any:
    x = tf.reshape(call.inputs[0], (-1, call.shapes[1][1]))
    y = tf.matmul(x, call.inputs[1], transpose_b=True)
    if call.given(2):
        y = tf.nn.bias_add(y, tf.reshape(call.inputs[2], (-1,)))
    y = fused(tf, y, call.op.option("fusedActivationFunction"))
    return y if len(call.outputs[0]) == 2 else tf.reshape(y, call.out_shape())


def batch_matmul(tf: Any, call: Call) -> Any:
    options = call.op.options
    return tf.matmul(
        *call.inputs,
        transpose_a=bool(getattr(options, "adjX", False)),
        transpose_b=bool(getattr(options, "adjY", False)),
    )


def batch_axes_apart(call: Call) -> bool:
    """The first axis is none of those multiplied, and is not broadcast."""
    out = call.outputs[0]
    return len(out) > 2 and all(
        len(shape) == len(out) and shape[0] == out[0] if batched else len(shape) < len(out) or shape[0] == 1
        for shape, batched in zip(call.shapes, call.batched, strict=True)
    )
