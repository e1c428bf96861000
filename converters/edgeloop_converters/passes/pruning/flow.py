"""How channels go through ops: a table, builtin name -> rule. An op that is not in it freezes what it touches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.pruning.channels import Builder

Rule = Callable[[Builder, int, Op], None]


def stays(b: Builder, number: int, op: Op) -> None:
    """Nothing is known: inputs and outputs keep all channels."""
    for index in (*op.inputs, *op.outputs):
        if index >= 0:
            b.freeze(b.classes(index))


def _layer(b: Builder, number: int, op: Op, positions: tuple[int, int, int]) -> None:
    """Weights [out, ..., in]. positions: of activations, weights and bias among the inputs."""
    source, weight, bias = (op.inputs[p] if p < len(op.inputs) else -1 for p in positions)
    weights = b.tensors[weight]
    classes = b.classes(source)
    columns = int(weights.shape[-1]) if weights.shape else 0
    plain = weights.is_constant and weights.dtype == "float32" and (bias < 0 or b.tensors[bias].is_constant)
    if op.name == "FULLY_CONNECTED":
        plain = plain and columns in _trailing(b.tensors[source].shape) and columns % classes.size == 0
        classes = np.tile(classes, columns // classes.size) if plain else classes
    if not plain or classes.size != columns:
        stays(b, number, op)
        return
    made = b.new(int(weights.shape[0]))
    b.of[op.outputs[0]] = made
    b.follow(weight, 0, made)
    b.follow(weight, len(weights.shape) - 1, classes)
    if bias >= 0:
        b.follow(bias, 0, made)
    b.produced.append((number, made))
    b.consumed.append((number, classes))


def _weighted(b: Builder, number: int, op: Op) -> None:
    _layer(b, number, op, (0, 1, 2))


def _transposed(b: Builder, number: int, op: Op) -> None:
    _layer(b, number, op, (2, 1, 3))


def _depthwise(b: Builder, number: int, op: Op) -> None:
    """Weights [1, height, width, channels * multiplier]; outputs of one channel lie side by side."""
    source, weight = op.inputs[:2]
    bias = op.inputs[2] if len(op.inputs) > 2 else -1
    classes, wide = b.classes(source), b.width(weight)
    constants = b.tensors[weight].is_constant and (bias < 0 or b.tensors[bias].is_constant)
    if not constants or wide % classes.size or b.tensors[weight].dtype != "float32":
        stays(b, number, op)
        return
    made = np.repeat(classes, wide // classes.size)
    b.of[op.outputs[0]] = made
    b.follow(weight, 3, made)
    if bias >= 0:
        b.follow(bias, 0, made)


def _same(b: Builder, number: int, op: Op) -> None:
    """Channel by channel: the output has the first input's."""
    if b.width(op.outputs[0]) != b.width(op.inputs[0]):
        stays(b, number, op)
        return
    b.of[op.outputs[0]] = b.classes(op.inputs[0])


def _pointwise(b: Builder, number: int, op: Op) -> None:
    """Position by position, with broadcasting: what has as many channels as the output is tied to it."""
    wide = b.width(op.outputs[0])
    made = None
    for index in op.inputs:
        tensor = b.tensors[index]
        if b.width(index) != wide:
            b.freeze(b.classes(index))
        elif not tensor.is_constant:
            if made is None:
                made = b.classes(index)
            else:
                b.unite(made, b.classes(index))
    if made is None:
        stays(b, number, op)
        return
    for index in op.inputs:
        tensor = b.tensors[index]
        if tensor.is_constant and tensor.shape and b.width(index) == wide and wide > 1:
            b.follow(index, len(tensor.shape) - 1, made)
    b.of[op.outputs[0]] = made


def _pad(b: Builder, number: int, op: Op) -> None:
    how = b.tensors[op.inputs[1]].data
    channels_too = how is None or bool(np.asarray(how).reshape(-1, 2)[-1].any())
    (stays if channels_too else _same)(b, number, op)


def _reduce(b: Builder, number: int, op: Op) -> None:
    """Over other axes than the last."""
    axes = b.tensors[op.inputs[1]].data
    last = len(b.tensors[op.inputs[0]].shape) - 1
    over_channels = axes is None or bool(np.isin(np.asarray(axes).ravel(), (-1, last)).any())
    (stays if over_channels else _same)(b, number, op)


def _concatenate(b: Builder, number: int, op: Op) -> None:
    rank = len(b.tensors[op.outputs[0]].shape)
    parts = [b.classes(i) for i in op.inputs]
    if op.option("axis") in (-1, rank - 1):
        b.of[op.outputs[0]] = np.concatenate(parts)
        return
    for part in parts[1:]:
        b.unite(parts[0], part)
    b.of[op.outputs[0]] = parts[0]


def _reshape(b: Builder, number: int, op: Op) -> None:
    """Row-major: the channel still runs fastest. Flattened, every position repeats the channels."""
    before, after = b.tensors[op.inputs[0]].shape, b.tensors[op.outputs[0]].shape
    classes = b.classes(op.inputs[0])
    narrow, wide = b.width(op.inputs[0]), b.width(op.outputs[0])
    if wide == narrow:
        b.of[op.outputs[0]] = classes
    elif wide % narrow == 0 and wide in _trailing(before):
        b.of[op.outputs[0]] = np.tile(classes, wide // narrow)
    elif narrow % wide == 0 and narrow in _trailing(after):
        rows = classes.reshape(-1, wide)
        for row in rows[1:]:
            b.unite(rows[0], row)
        b.of[op.outputs[0]] = rows[0]
    else:
        stays(b, number, op)


def _trailing(shape: tuple[int, ...]) -> set[int]:
    """Sizes of what is flattened from some axis to the last."""
    return {math.prod(shape[i:]) for i in range(len(shape))}


def _transpose(b: Builder, number: int, op: Op) -> None:
    """Of other axes than the last."""
    order = b.tensors[op.inputs[1]].data
    stays_last = order is not None and int(np.asarray(order).ravel()[-1]) in (-1, np.asarray(order).size - 1)
    (_same if stays_last else stays)(b, number, op)


def _split(b: Builder, number: int, op: Op) -> None:
    """Inputs: axis, activations. Along the channels, the parts stay equally wide: they are tied together."""
    axis = b.tensors[op.inputs[0]].data
    classes = b.classes(op.inputs[1])
    if axis is None:
        stays(b, number, op)
        return
    last = len(b.tensors[op.inputs[1]].shape) - 1
    parts = [classes] * len(op.outputs)
    if int(np.asarray(axis).ravel()[0]) in (-1, last):
        parts = np.split(classes, len(op.outputs))
        for part in parts[1:]:
            b.unite(parts[0], part)
    for index, part in zip(op.outputs, parts, strict=True):
        b.of[index] = part


_PER_CHANNEL = [
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RELU_0_TO_1",
    "LOGISTIC",
    "TANH",
    "HARD_SWISH",
    "LEAKY_RELU",
    "ELU",
    "GELU",
    "ABS",
    "NEG",
    "EXP",
    "SQUARE",
    "SQRT",
    "RSQRT",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "L2_POOL_2D",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SQUEEZE",
    "EXPAND_DIMS",
]

FLOW: Mapping[str, Rule] = {
    "CONV_2D": _weighted,
    "FULLY_CONNECTED": _weighted,
    "TRANSPOSE_CONV": _transposed,
    "DEPTHWISE_CONV_2D": _depthwise,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU"), _pointwise),
    **dict.fromkeys(_PER_CHANNEL, _same),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduce),
    "CONCATENATION": _concatenate,
    "RESHAPE": _reshape,
    "SPLIT": _split,
    "TRANSPOSE": _transpose,
}
