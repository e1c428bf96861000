"""Activations, fused and on their own."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call


def fused(tf: Any, x: Any, code: int) -> Any:
    """The activation that an op has built in, by the schema's number."""
    if code == 0:
        return x
    if code == 1:
        return tf.nn.relu(x)
    if code == 2:
        return tf.clip_by_value(x, -1.0, 1.0)
    if code == 3:
        return tf.nn.relu6(x)
    raise ValueError(code)


def relu(tf: Any, call: Call) -> Any:
    return tf.nn.relu(call.inputs[0])


def relu6(tf: Any, call: Call) -> Any:
    return tf.nn.relu6(call.inputs[0])


def relu_n1_to_1(tf: Any, call: Call) -> Any:
    return tf.clip_by_value(call.inputs[0], -1.0, 1.0)


def relu_0_to_1(tf: Any, call: Call) -> Any:
    return tf.clip_by_value(call.inputs[0], 0.0, 1.0)


def logistic(tf: Any, call: Call) -> Any:
    return tf.math.sigmoid(call.inputs[0])


def tanh(tf: Any, call: Call) -> Any:
    return tf.math.tanh(call.inputs[0])


def elu(tf: Any, call: Call) -> Any:
    return tf.nn.elu(call.inputs[0])


def hard_swish(tf: Any, call: Call) -> Any:
    x = call.inputs[0]
    return x * tf.nn.relu6(x + 3.0) * (1 / 6)


def gelu(tf: Any, call: Call) -> Any:
    return tf.nn.gelu(call.inputs[0], approximate=bool(getattr(call.op.options, "approximate", False)))


def leaky_relu(tf: Any, call: Call) -> Any:
    return tf.nn.leaky_relu(call.inputs[0], alpha=float(getattr(call.op.options, "alpha", 0.2)))


def prelu(tf: Any, call: Call) -> Any:
    x, alpha = call.inputs
    return tf.nn.relu(x) - alpha * tf.nn.relu(-x)


def softmax(tf: Any, call: Call) -> Any:
    beta = float(getattr(call.op.options, "beta", 1.0) or 1.0)
    return tf.nn.softmax(call.inputs[0] * beta if beta != 1 else call.inputs[0])


def log_softmax(tf: Any, call: Call) -> Any:
    return tf.nn.log_softmax(call.inputs[0])


def l2_normalization(tf: Any, call: Call) -> Any:
    return tf.math.l2_normalize(call.inputs[0], axis=-1, epsilon=1e-12)


def last_axis_only(call: Call) -> bool:
    """Nothing is summed along the first axis."""
    return len(call.shapes[0]) > 1
