"""Fusion in parallel and in space: branches on one input become one layer.

Added: linear branches (k x k, 1 x 1, the input itself) are one kernel, the smaller ones put into the middle of the
largest (Ding et al. 2021, "RepVGG"). Concatenated: their filters side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import SAME, Editor, Floats, activation, is_linear
from edgeloop_converters.passes.graph.series import bias_of, same_padding, set_weights

_WINDOW = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "padding", "depthMultiplier")


def sum_branches(editor: Editor) -> int:
    """ADD(layer(x), layer(x)), or ADD(layer(x), x) -> layer(x), where that is no more work."""
    count = 0
    for add in list(editor.main.ops):
        if add.name != "ADD" or add.inputs[0] == add.inputs[1]:
            continue
        if any(editor.shape(i) != editor.shape(add.outputs[0]) for i in add.inputs):
            continue
        makers = [editor.only_maker(i) for i in add.inputs]
        layers = [m for m in makers if m is not None and _is_branch(editor, m)]
        if len(layers) == 2 and layers[0].inputs[0] == layers[1].inputs[0]:
            summed = _sum(editor, layers)
        elif layers and layers[0].inputs[0] in add.inputs:
            summed = _with_input(editor, layers[0])
            layers = layers[:1]
        else:
            continue
        if summed is None:
            continue
        keeper = max(layers, key=lambda op: editor.shape(op.inputs[1])[1:3] if op.name != "FULLY_CONNECTED" else (1, 1))
        set_weights(editor, keeper, *summed)
        keeper.outputs = list(add.outputs)
        keeper.options.fusedActivationFunction = activation(add)
        for op in layers:
            if op is not keeper:
                editor.remove(op)
        editor.remove(add)
        count += 1
    return count


def _is_branch(editor: Editor, op: Op) -> bool:
    return (
        op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        and is_linear(op)
        and editor.floats(op, 1) is not None
        and (len(op.inputs) < 3 or op.inputs[2] < 0 or editor.floats(op, 2) is not None)
    )


def _sum(editor: Editor, layers: Sequence[Op]) -> tuple[Floats, Floats] | None:
    first, second = layers
    if first.name != second.name:
        return None
    weights = [editor.floats(op, 1) for op in layers]
    bias = bias_of(editor, first) + bias_of(editor, second)
    if first.name == "FULLY_CONNECTED":
        assert weights[0] is not None
        assert weights[1] is not None
        return weights[0] + weights[1], bias
    largest = max((w for w in weights if w is not None), key=lambda w: (w.shape[1], w.shape[2]))
    keeper = next(op for op, w in zip(layers, weights, strict=True) if w is largest)
    placed = [_placed(editor, op, w, keeper, largest) for op, w in zip(layers, weights, strict=True) if w is not None]
    if placed[0] is None or placed[1] is None:
        return None
    return placed[0] + placed[1], bias


def _placed(editor: Editor, op: Op, weights: Floats, keeper: Op, largest: Floats) -> Floats | None:
    """The kernel inside one of the largest one's size, where both look at the same places; None where they do not."""
    if op is keeper:
        return weights
    if any(op.option(n, 1) != keeper.option(n, 1) for n in _WINDOW if n != "padding"):
        return None
    if max(op.option("dilationHFactor", 1), op.option("dilationWFactor", 1)) > 1:
        return None
    if weights.shape[0] != largest.shape[0] or weights.shape[3] != largest.shape[3]:
        return None
    sizes = editor.shape(op.inputs[0])
    starts = []
    for axis in range(2):
        before = [
            pads[0] if (pads := _pads(editor, o, axis, sizes[1 + axis])) is not None else None for o in (op, keeper)
        ]
        if before[0] is None or before[1] is None:
            return None
        start = before[1] - before[0]  # the smaller kernel's first tap, seen from the larger one's
        if start < 0 or start + weights.shape[1 + axis] > largest.shape[1 + axis]:
            return None
        starts.append(start)
    placed = np.zeros_like(largest)
    height, width = weights.shape[1:3]
    placed[:, starts[0] : starts[0] + height, starts[1] : starts[1] + width] = weights
    return placed


def _pads(editor: Editor, op: Op, axis: int, size: int) -> tuple[int, int] | None:
    return same_padding(editor, op, axis, size) if op.option("padding") == SAME else (0, 0)


def _with_input(editor: Editor, op: Op) -> tuple[Floats, Floats] | None:
    """The input itself is a kernel with a one in the middle."""
    weights = editor.floats(op, 1)
    if weights is None:
        return None
    bias = bias_of(editor, op)
    if op.name == "FULLY_CONNECTED":
        return (weights + np.eye(len(weights), dtype=np.float32), bias) if _is_square(weights) else None
    if (op.option("strideH"), op.option("strideW")) != (1, 1) or editor.uses(op.inputs[0]) < 2:
        return None
    sizes, at = editor.shape(op.inputs[0]), []
    for axis, name in enumerate(("dilationHFactor", "dilationWFactor")):
        pads = _pads(editor, op, axis, sizes[1 + axis])
        if pads is None or pads[0] % op.option(name, 1) or pads[0] // op.option(name, 1) >= weights.shape[1 + axis]:
            return None
        at.append(pads[0] // op.option(name, 1))
    fresh = weights.copy()
    if op.name == "DEPTHWISE_CONV_2D":
        if op.option("depthMultiplier", 1) != 1:
            return None
        fresh[0, at[0], at[1]] += 1
    elif _is_square(weights):
        fresh[:, at[0], at[1]] += np.eye(len(weights), dtype=np.float32)
    else:
        return None
    return fresh, bias


def _is_square(weights: Floats) -> bool:
    return bool(weights.shape[0] == weights.shape[-1])


def join_concatenated(editor: Editor) -> int:
    """CONCATENATION of layers that read one input through the same window -> one layer."""
    count = 0
    for join in list(editor.main.ops):
        if join.name != "CONCATENATION" or len(join.inputs) < 2 or not is_linear(join):
            continue
        if join.option("axis") not in (-1, len(editor.shape(join.outputs[0])) - 1):
            continue
        layers = [editor.only_maker(i) for i in join.inputs]
        if len(set(join.inputs)) < len(join.inputs):
            continue
        if _join(editor, [op for op in layers if op is not None], len(join.inputs), join.outputs):
            editor.remove(join)
            count += 1
    return count


def _join(editor: Editor, layers: Sequence[Op], wanted: int, outputs: Sequence[int]) -> bool:
    if len(layers) != wanted or any(op.name not in ("CONV_2D", "FULLY_CONNECTED") for op in layers):
        return False
    first, *others = layers
    weights = [editor.floats(op, 1) for op in layers]
    if any(w is None for w in weights) or any(
        len(op.inputs) > 2 and op.inputs[2] >= 0 and editor.floats(op, 2) is None for op in layers
    ):
        return False
    same = ("fusedActivationFunction", "keepNumDims", *_WINDOW)
    for op, w in zip(others, weights[1:], strict=True):
        assert w is not None
        assert weights[0] is not None
        if op.name != first.name or op.inputs[0] != first.inputs[0] or w.shape[1:] != weights[0].shape[1:]:
            return False
        if any(getattr(op.options, n, None) != getattr(first.options, n, None) for n in same):
            return False
    if first.name == "CONV_2D" and editor.shape(first.inputs[0])[-1] != editor.shape(first.inputs[1])[-1]:
        return False
    bias = np.concatenate([bias_of(editor, op) for op in layers])
    set_weights(editor, first, np.concatenate([w for w in weights if w is not None]), bias)
    last = layers[-1]
    for op in others:
        if op is not last:
            editor.remove(op)
    first.outputs = list(outputs)
    editor.remove(last)
    return True
