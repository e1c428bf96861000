"""Fusion in parallel and in space: branches on one input become one layer.

Added: linear branches (k x k, 1 x 1, the input itself or its normalization) are one kernel, the smaller ones put into
the middle of the largest (Ding et al. 2021, "RepVGG"). Concatenated: their filters side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeloop.graph import Op, Tensor
from edgeloop_converters.passes.graph.editing import Editor, Floats, activation, is_linear
from edgeloop_converters.passes.graph.scales import affine_chain
from edgeloop_converters.passes.graph.series import bias_of, owns_weights, set_weights
from edgeloop_converters.passes.graph.windows import placed, window_of

_WINDOW = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "padding", "depthMultiplier")


def sum_branches(editor: Editor) -> int:
    """ADD(layer(x), layer(x)), or ADD(layer(x), a x + b) -> layer(x), where that is no more work."""
    count = 0
    for add in list(editor.main.ops):
        if add.name != "ADD" or add.inputs[0] == add.inputs[1]:
            continue
        if any(editor.shape(i) != editor.shape(add.outputs[0]) for i in add.inputs):
            continue
        makers = [editor.only_maker(i) for i in add.inputs]
        layers = [m for m in makers if m is not None and _is_branch(editor, m)]
        found = None
        if len(layers) == 2:
            found = _sum(editor, layers)
        elif layers:
            other = next(i for i, maker in zip(add.inputs, makers, strict=True) if maker is not layers[0])
            found = _with_scaled_input(editor, layers[0], other)
        if found is None:
            continue
        keeper, weights, bias = found
        set_weights(editor, keeper, weights, bias)
        keeper.outputs = list(add.outputs)
        keeper.options.fusedActivationFunction = activation(add)
        for op in layers:
            if op is not keeper:
                editor.remove(op)
        editor.remove(add)
        count += 1
    return count


def _is_branch(editor: Editor, op: Op) -> bool:
    return op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and is_linear(op) and owns_weights(editor, op)


def _sum(editor: Editor, layers: Sequence[Op]) -> tuple[Op, Floats, Floats] | None:
    """The layer that stays, with the weights of both."""
    first, second = layers
    weights = [w for w in (editor.floats(op, 1) for op in layers) if w is not None]
    if first.name != second.name or len(weights) < 2:
        return None
    bias = bias_of(editor, first) + bias_of(editor, second)
    if first.name == "FULLY_CONNECTED":
        alike = first.inputs[0] == second.inputs[0] and weights[0].shape == weights[1].shape
        return (first, weights[0] + weights[1], bias) if alike else None
    windows = [w for w in (window_of(editor, op) for op in layers) if w is not None]
    if len(windows) < 2:
        return None
    if first.option("depthMultiplier", 1) != second.option("depthMultiplier", 1):
        return None
    keeper = int(weights[1].shape[1] * weights[1].shape[2] > weights[0].shape[1] * weights[0].shape[2])
    smaller = placed(weights[1 - keeper], windows[1 - keeper], weights[keeper].shape, windows[keeper])
    return None if smaller is None else (layers[keeper], weights[keeper] + smaller, bias)


def _with_scaled_input(editor: Editor, op: Op, other: int) -> tuple[Op, Floats, Floats] | None:
    """What is added is a x + b per channel, x the layer's own input: a kernel with `a` where it reads its own place."""
    source, scale, shift, _ = affine_chain(editor, other)
    weights = editor.floats(op, 1)
    if weights is None or (op.name == "DEPTHWISE_CONV_2D" and op.option("depthMultiplier", 1) != 1):
        return None
    fresh, bias = weights.copy(), bias_of(editor, op) + shift
    if op.name == "FULLY_CONNECTED":
        if op.inputs[0] not in (other, source) or not _is_square(weights):
            return None
        if op.inputs[0] == other:
            scale, bias = np.ones_like(scale), bias_of(editor, op)
        return op, fresh + np.diag(scale), bias
    window = window_of(editor, op)
    if window is None:
        return None
    if window.source == other:  # what looks like a scale is one that both read
        scale, bias = np.ones_like(scale), bias_of(editor, op)
    elif window.source != source:
        return None
    at = window.tap_at_origin(weights.shape[1:3])
    if at is None:
        return None
    if op.name == "DEPTHWISE_CONV_2D":
        fresh[0, at[0], at[1]] += scale
    elif _is_square(weights):
        fresh[:, at[0], at[1]] += np.diag(scale)
    else:
        return None
    return op, fresh, bias


def _is_square(weights: Floats) -> bool:
    return bool(weights.shape[0] == weights.shape[-1])


def join_concatenated(editor: Editor) -> int:
    """CONCATENATION of layers that read one input through the same window -> one layer in their place, for every run
    of such neighbors; alone they make the concatenation needless."""
    count = 0
    for join in list(editor.main.ops):
        if join.name != "CONCATENATION" or len(set(join.inputs)) < max(len(join.inputs), 2) or not is_linear(join):
            continue
        if join.option("axis") not in (-1, len(editor.shape(join.outputs[0])) - 1):
            continue
        layers = [editor.only_maker(i) for i in join.inputs]
        start = 0
        while start < len(layers):
            end = start + 1
            while end < len(layers) and _are_siblings(editor, layers[start], layers[end]):
                end += 1
            run = [op for op in layers[start:end] if op is not None]
            if len(run) > 1:
                _join(editor, join, run)
                count += 1
            start = end
        if len(join.inputs) == 1:
            maker = editor.maker(join.inputs[0])
            assert maker is not None
            maker.outputs = list(join.outputs)
            editor.remove(join)
    return count


def _are_siblings(editor: Editor, first: Op | None, second: Op | None) -> bool:
    if first is None or second is None or first.name not in ("CONV_2D", "FULLY_CONNECTED"):
        return False
    if not (owns_weights(editor, first) and owns_weights(editor, second)) or first.name != second.name:
        return False
    shapes = [editor.shape(op.inputs[1]) for op in (first, second)]
    if first.inputs[0] != second.inputs[0] or shapes[0][1:] != shapes[1][1:]:
        return False
    if first.name == "CONV_2D" and editor.shape(first.inputs[0])[-1] != shapes[0][-1]:  # filters in groups
        return False
    same = ("fusedActivationFunction", "keepNumDims", *_WINDOW)
    return all(getattr(first.options, n, None) == getattr(second.options, n, None) for n in same)


def _join(editor: Editor, join: Op, layers: Sequence[Op]) -> None:
    """The last one takes the place of all: everything that it reads is there by then."""
    last = layers[-1]
    weights = [w for w in (editor.floats(op, 1) for op in layers) if w is not None]
    bias = np.concatenate([bias_of(editor, op) for op in layers])
    gone = {op.outputs[0] for op in layers[:-1]}
    set_weights(editor, last, np.concatenate(weights), bias)
    out = editor.main.tensors[last.outputs[0]]
    wider = Tensor(f"{out.name}/joined", (*out.shape[:-1], len(bias)), out.dtype)
    joined = editor.main.add_tensor(wider)
    join.inputs = [joined if i == last.outputs[0] else i for i in join.inputs if i not in gone]
    last.outputs = [joined]
    for op in layers[:-1]:
        editor.remove(op)
