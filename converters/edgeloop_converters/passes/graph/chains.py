"""Layers in a row with nothing between them: W2 (W1 x + b1) + b2 is one layer, done where that is no more work."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import SAME, VALID, Editor, Floats, is_linear
from edgeloop_converters.passes.graph.series import bias_of, owns_weights, pads_nothing, same_padding, set_weights

_MOST_VALUES = 1 << 24
"""Of a merged kernel: more is no gain in memory for any board."""


@dataclass(frozen=True)
class _Merged:
    """weights, bias: of the one layer. stride, padding: of a convolution, where it does not keep the second one's."""

    weights: Floats
    bias: Floats
    stride: tuple[int, int] = (0, 0)
    padding: int = -1


def merge_chains(editor: Editor) -> int:
    """Convolutions and dense layers in a row, a flattening between them or not."""
    count = 0
    for second in list(editor.main.ops):
        if second.name not in ("CONV_2D", "FULLY_CONNECTED") or not any(o is second for o in editor.main.ops):
            continue
        first = editor.only_maker(second.inputs[0])
        flatten = None
        if first is not None and first.name == "RESHAPE" and second.name == "FULLY_CONNECTED":
            flatten, first = first, editor.only_maker(first.inputs[0])
        if first is None or first.name not in ("CONV_2D", "FULLY_CONNECTED") or not is_linear(first):
            continue
        if owns_weights(editor, first) and owns_weights(editor, second) and _merge(editor, first, second, flatten):
            count += 1
    return count


def _merge(editor: Editor, first: Op, second: Op, flatten: Op | None) -> bool:
    w1, w2 = editor.floats(first, 1), editor.floats(second, 1)
    assert w1 is not None
    assert w2 is not None
    if first.name == "CONV_2D" and w1.shape[-1] != editor.shape(first.inputs[0])[-1]:  # filters in groups
        return False
    if second.name == "CONV_2D":
        return first.name == "CONV_2D" and _convolutions(editor, first, second, w1, w2)
    if first.name == "FULLY_CONNECTED":
        return flatten is None and w2.shape[-1] == len(w1) and _dense(editor, first, second, w1, w2)
    if flatten is None or w2.shape[-1] != math.prod(editor.shape(first.outputs[0])[1:]):
        return False
    if editor.shape(first.outputs[0])[0] != 1 or editor.shape(second.outputs[0])[0] != 1:
        return False
    return _flattened(editor, first, second, flatten, w1, w2)


def _dense(editor: Editor, first: Op, second: Op, w1: Floats, w2: Floats) -> bool:
    places = math.prod(editor.shape(second.outputs[0])[:-1])
    if len(w2) * w1.shape[1] * places > (w1.size + w2.size) * places:
        return False
    set_weights(editor, second, w2 @ w1, w2 @ bias_of(editor, first) + bias_of(editor, second))
    second.inputs[0] = first.inputs[0]
    editor.remove(first)
    return True


def _convolutions(editor: Editor, first: Op, second: Op, w1: Floats, w2: Floats) -> bool:
    if w2.shape[-1] != len(w1):
        return False
    merged = _composed(editor, first, second, w1, w2)
    if merged is None:
        return False
    places = [math.prod(editor.shape(op.outputs[0])[:-1]) for op in (first, second)]
    if merged.weights.size * places[1] > w1.size * places[0] + w2.size * places[1]:
        return False
    if merged.padding >= 0:
        second.options.padding = merged.padding
        second.options.strideH, second.options.strideW = merged.stride
    elif _is_pointwise(second, w2):
        for name in ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "padding"):
            setattr(second.options, name, getattr(first.options, name))
    second.inputs[0] = first.inputs[0]
    set_weights(editor, second, merged.weights, merged.bias)
    editor.remove(first)
    return True


def _composed(editor: Editor, first: Op, second: Op, w1: Floats, w2: Floats) -> _Merged | None:
    b1, b2 = bias_of(editor, first), bias_of(editor, second)
    if _is_pointwise(second, w2):
        return _Merged(np.tensordot(w2[:, 0, 0], w1, axes=(1, 0)), w2[:, 0, 0] @ b1 + b2)
    bias = np.tensordot(w2, b1, axes=(3, 0)).sum(axis=(1, 2)) + b2
    if _is_pointwise(first, w1) and (not b1.any() or pads_nothing(editor, second)):
        return _Merged(np.tensordot(w2, w1[:, 0, 0], axes=(3, 0)), bias)
    if not (pads_nothing(editor, first) and pads_nothing(editor, second)) or _is_dilated(first) or _is_dilated(second):
        return None
    strides = [(op.option("strideH", 1), op.option("strideW", 1)) for op in (first, second)]
    (h1, v1), (h2, v2) = w1.shape[1:3], w2.shape[1:3]
    size = (h1 + strides[0][0] * (h2 - 1), v1 + strides[0][1] * (v2 - 1))
    if len(w2) * size[0] * size[1] * w1.shape[3] > _MOST_VALUES:
        return None
    weights = np.zeros((len(w2), *size, w1.shape[3]), np.float32)
    for y in range(h2):
        for x in range(v2):
            rows, columns = y * strides[0][0], x * strides[0][1]
            weights[:, rows : rows + h1, columns : columns + v1] += np.tensordot(w2[:, y, x], w1, axes=(1, 0))
    stride = (strides[0][0] * strides[1][0], strides[0][1] * strides[1][1])
    return _Merged(weights, bias, stride, VALID)


def _flattened(editor: Editor, first: Op, second: Op, flatten: Op, w1: Floats, w2: Floats) -> bool:
    """Convolution, flattening, dense layer -> flattening, dense layer; where neither work nor weights grow."""
    shape, out = editor.shape(first.inputs[0]), editor.shape(first.outputs[0])
    size = len(w2) * math.prod(shape)
    if size > w1.size + w2.size or size > _MOST_VALUES:
        return False
    weights = _adjoint(editor, first, w1, w2.reshape(len(w2), *out[1:]))
    if weights is None:
        return False
    bias = np.tensordot(w2.reshape(len(w2), -1, out[-1]).sum(axis=1), bias_of(editor, first), axes=(1, 0))
    bias = bias + bias_of(editor, second)
    told = np.array([1, math.prod(shape)], np.int32)
    flat = editor.main.tensors[flatten.outputs[0]]
    flat.shape, flat.shape_signature = tuple(told.tolist()), None
    flatten.inputs[0] = first.inputs[0]
    editor.set_constant(flatten, 1, told)
    if getattr(flatten.options, "newShape", None) is not None:
        flatten.options.newShape = told.tolist()
    set_weights(editor, second, weights.reshape(len(w2), -1), bias)
    editor.remove(first)
    return True


def _adjoint(editor: Editor, op: Op, kernel: Floats, seen: Floats) -> Floats | None:
    """Weights on the convolution's output, [n, height, width, out] -> those on its input, [n, height, width, in]."""
    _, height, width, channels = editor.shape(op.inputs[0])
    strides = op.option("strideH", 1), op.option("strideW", 1)
    dilations = op.option("dilationHFactor", 1), op.option("dilationWFactor", 1)
    pads = [same_padding(editor, op, axis, (height, width)[axis]) for axis in range(2)]
    if op.option("padding") != SAME:
        pads = [(0, 0), (0, 0)]
    if pads[0] is None or pads[1] is None:
        return None
    spans = [
        (seen.shape[1 + axis] - 1) * strides[axis] + (kernel.shape[1 + axis] - 1) * dilations[axis] + 1
        for axis in range(2)
    ]
    rows, columns = max(spans[0], pads[0][0] + height), max(spans[1], pads[1][0] + width)
    found = np.zeros((len(seen), rows, columns, channels), np.float32)
    for y in range(kernel.shape[1]):
        for x in range(kernel.shape[2]):
            top, left = y * dilations[0], x * dilations[1]
            found[
                :,
                top : top + (seen.shape[1] - 1) * strides[0] + 1 : strides[0],
                left : left + (seen.shape[2] - 1) * strides[1] + 1 : strides[1],
            ] += seen @ kernel[:, y, x]
    return found[:, pads[0][0] : pads[0][0] + height, pads[1][0] : pads[1][0] + width]


def _is_pointwise(op: Op, weights: Floats) -> bool:
    return weights.shape[1:3] == (1, 1) and op.option("strideH") == 1 and op.option("strideW") == 1


def _is_dilated(op: Op) -> bool:
    return max(op.option("dilationHFactor", 1), op.option("dilationWFactor", 1)) > 1
