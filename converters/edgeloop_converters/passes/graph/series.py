"""Fusion in series: padding and activations go into a layer. Layers in a row: `chains`; scales and shifts: `scales`."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import SAME, VALID, Editor, Floats, is_linear

LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_TAKES_ACTIVATION = frozenset({*LAYERS, "ADD", "SUB", "MUL", "DIV", "MAX_POOL_2D", "AVERAGE_POOL_2D"})
_CODES = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


def fuse_activations(editor: Editor) -> int:
    """op, RELU -> op with a fused RELU."""
    count = 0
    for op in list(editor.main.ops):
        code = _CODES.get(op.name)
        maker = editor.only_maker(op.inputs[0]) if code is not None else None
        if maker is None or maker.name not in _TAKES_ACTIVATION or not is_linear(maker) or maker.options is None:
            continue
        if editor.main.tensors[op.outputs[0]].dtype != "float32":
            continue
        maker.options.fusedActivationFunction = code
        maker.outputs = list(op.outputs)
        editor.remove(op)
        count += 1
    return count


def fuse_padding(editor: Editor) -> int:
    """PAD by zeros, convolution without padding -> convolution with SAME, where SAME pads just so."""
    count = 0
    for op in list(editor.main.ops):
        if op.name != "PAD" or (how := editor.data(op.inputs[1])) is None:
            continue
        reader = editor.only_reader(op.outputs[0])
        if reader is None or reader.name not in ("CONV_2D", "DEPTHWISE_CONV_2D") or reader.option("padding") != VALID:
            continue
        pads = np.asarray(how, np.int64).reshape(-1, 2).tolist()
        sizes = editor.shape(op.inputs[0])
        if len(pads) != 4 or pads[0] != [0, 0] or pads[3] != [0, 0] or reader.inputs[0] != op.outputs[0]:
            continue
        if [same_padding(editor, reader, i, sizes[1 + i]) for i in range(2)] != [tuple(pads[1]), tuple(pads[2])]:
            continue
        reader.inputs[0] = op.inputs[0]
        reader.options.padding = SAME
        editor.remove(op)
        count += 1
    return count


def same_padding(editor: Editor, op: Op, axis: int, size: int) -> tuple[int, int] | None:
    """What SAME would put before and after an axis (0: height) of that size; None where the output would differ."""
    kernel = editor.shape(op.inputs[1])[1 + axis]
    stride = op.option(("strideH", "strideW")[axis], 1)
    dilation = op.option(("dilationHFactor", "dilationWFactor")[axis], 1)
    out = -(-size // stride)
    if out != editor.shape(op.outputs[0])[1 + axis]:
        return None
    missing = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return missing // 2, missing - missing // 2


def owns_weights(editor: Editor, op: Op) -> bool:
    """Whether its weights, and its bias where it has one, are float32 constants."""
    return editor.floats(op, 1) is not None and (
        len(op.inputs) < 3 or op.inputs[2] < 0 or editor.floats(op, 2) is not None
    )


def bias_of(editor: Editor, op: Op) -> Floats:
    """Zeros where it has none."""
    bias = editor.floats(op, 2)
    return np.zeros(editor.shape(op.outputs[0])[-1], np.float32) if bias is None else bias


def set_weights(editor: Editor, op: Op, weights: Floats, bias: Floats) -> None:
    editor.set_constant(op, 1, np.asarray(weights, np.float32))
    editor.set_constant(op, 2, np.asarray(bias, np.float32))


def pads_nothing(editor: Editor, op: Op) -> bool:
    if op.name == "FULLY_CONNECTED" or op.option("padding") == VALID:
        return True
    sizes = editor.shape(op.inputs[0])
    return all(same_padding(editor, op, i, sizes[1 + i]) == (0, 0) for i in range(2))
