"""Arithmetic, element by element."""

from __future__ import annotations

from typing import Any

from edgeloop_converters.trainable.call import Call
from edgeloop_converters.trainable.ops.activations import fused


def _fused(tf: Any, call: Call, y: Any) -> Any:
    return fused(tf, y, call.op.option("fusedActivationFunction"))


def add(tf: Any, call: Call) -> Any:
    return _fused(tf, call, call.inputs[0] + call.inputs[1])


def sub(tf: Any, call: Call) -> Any:
    return _fused(tf, call, call.inputs[0] - call.inputs[1])


def mul(tf: Any, call: Call) -> Any:
    return _fused(tf, call, call.inputs[0] * call.inputs[1])


def div(tf: Any, call: Call) -> Any:
    integers = call.inputs[0].dtype.is_integer
    quotient = tf.math.floordiv(*call.inputs) if integers else call.inputs[0] / call.inputs[1]
    return _fused(tf, call, quotient)


def add_n(tf: Any, call: Call) -> Any:
    return tf.add_n(list(call.inputs))


def plain(tf: Any, call: Call) -> Any:
    """Ops that TensorFlow has by the same name."""
    return getattr(tf.math, _NAMES[call.op.name])(*call.inputs)


_NAMES = {
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
    "SQUARED_DIFFERENCE": "squared_difference",
    "POW": "pow",
    "FLOOR_DIV": "floordiv",
    "FLOOR_MOD": "floormod",
    "ABS": "abs",
    "NEG": "negative",
    "EXP": "exp",
    "LOG": "log",
    "SQRT": "sqrt",
    "RSQRT": "rsqrt",
    "SQUARE": "square",
    "SIN": "sin",
    "COS": "cos",
    "FLOOR": "floor",
    "CEIL": "ceil",
    "ROUND": "rint",
    "SIGN": "sign",
    "EQUAL": "equal",
    "NOT_EQUAL": "not_equal",
    "GREATER": "greater",
    "GREATER_EQUAL": "greater_equal",
    "LESS": "less",
    "LESS_EQUAL": "less_equal",
    "LOGICAL_AND": "logical_and",
    "LOGICAL_OR": "logical_or",
    "LOGICAL_NOT": "logical_not",
}


def select(tf: Any, call: Call) -> Any:
    return tf.where(*call.inputs)


def cast(tf: Any, call: Call) -> Any:
    return tf.cast(call.inputs[0], call.dtype)
