"""Scales and shifts per channel that are left over: into the layer before or behind them, or several into one."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import Editor, Floats, activation, is_linear
from edgeloop_converters.passes.graph.series import LAYERS, bias_of, owns_weights, pads_nothing, set_weights

_AFFINE = frozenset({"MUL", "ADD", "SUB", "DIV"})


def fold_scales(editor: Editor) -> int:
    """Scales and shifts per channel after or before a layer -> its weights and bias."""
    count = 0
    for op in list(editor.main.ops):
        if op.name not in _AFFINE or not any(o is op for o in editor.main.ops):
            continue
        found = scale_and_shift(editor, op)
        if found is None:
            continue
        source, scale, shift = found
        maker, reader = editor.only_maker(source), editor.only_reader(op.outputs[0])
        if maker is not None and maker.name in LAYERS and is_linear(maker) and owns_weights(editor, maker):
            _scale_outputs(editor, maker, scale, shift)
            maker.options.fusedActivationFunction = activation(op)
            maker.outputs = list(op.outputs)
            editor.remove(op)
            count += 1
        elif reader is not None and is_linear(op) and _scale_inputs(editor, reader, op, source, scale, shift):
            count += 1
    return count


def scale_and_shift(editor: Editor, op: Op) -> tuple[int, Floats, Floats] | None:
    """(tensor x, a, b) where the op is a x + b along the last axis, a and b [channels]; its activation aside."""
    if op.name not in _AFFINE:
        return None
    at = next((p for p in (1, 0) if editor.floats(op, p) is not None), None)
    if at is None or (at == 0 and op.name == "DIV") or len(op.inputs) != 2:
        return None
    source, values = op.inputs[1 - at], editor.floats(op, at)
    assert values is not None
    shape = editor.shape(source)
    if editor.data(source) is not None or editor.main.tensors[source].dtype != "float32" or not shape:
        return None
    if values.size not in (1, shape[-1]) or (values.size > 1 and values.shape[-1] != values.size):
        return None
    if editor.shape(op.outputs[0]) != shape:
        return None
    flat = np.broadcast_to(values.ravel(), (shape[-1],)).astype(np.float32)
    one, zero = np.ones_like(flat), np.zeros_like(flat)
    if op.name == "MUL":
        return source, flat, zero
    if op.name == "DIV":
        return (source, np.asarray(1 / flat, np.float32), zero) if bool((flat != 0).all()) else None
    if op.name == "ADD":
        return source, one, flat
    return (source, one, -flat) if at == 1 else (source, -one, flat)


def affine_chain(editor: Editor, index: int) -> tuple[int, Floats, Floats, list[Op]]:
    """(tensor x, a, b, ops) where tensor `index` is a x + b per channel, by ops that nothing else reads; the first op
    is the last one to run. Without any: x is the tensor itself.
    """
    channels = editor.shape(index)[-1] if editor.shape(index) else 1
    scale, shift = np.ones(channels, np.float64), np.zeros(channels, np.float64)
    ops: list[Op] = []
    while True:
        op = editor.only_maker(index)
        found = scale_and_shift(editor, op) if op is not None and is_linear(op) else None
        if op is None or found is None:
            return index, scale.astype(np.float32), shift.astype(np.float32), ops
        index, a, b = found
        scale, shift = scale * a, shift + scale * b
        ops.append(op)


def merge_scales(editor: Editor) -> int:
    """Scales and shifts in a row -> one scale and one shift, or just one of them."""
    count = 0
    for last in list(editor.main.ops):
        found = scale_and_shift(editor, last) if any(o is last for o in editor.main.ops) else None
        if found is None:
            continue
        source, a, b, chain = affine_chain(editor, found[0])
        scale, shift = found[1] * a, found[1] * b + found[2]
        wanted = ["MUL"] * bool((scale != 1).any()) + ["ADD"] * bool((shift != 0).any())
        if not wanted or len(chain) + 1 <= len(wanted):
            continue
        # The last op stays where it is, with its output and activation; the one before it carries the scale.
        if len(wanted) == 2:
            carrier = chain[0]
            _become(editor, carrier, "MUL", source, scale, 0)
            source = carrier.outputs[0]
        _become(editor, last, wanted[-1], source, shift if wanted[-1] == "ADD" else scale, activation(last))
        for op in chain[len(wanted) - 1 :]:
            editor.remove(op)
        count += 1
    return count


def _become(editor: Editor, op: Op, name: str, source: int, values: Floats, fused: int) -> None:
    from edgeloop.graph import make_options

    constant = editor.add(f"{editor.main.tensors[op.outputs[0]].name}/{name.lower()}", values)
    op.name, op.inputs = name, [source, constant]
    op.options = make_options("MulOptions" if name == "MUL" else "AddOptions", fusedActivationFunction=fused)


def _scale_outputs(editor: Editor, op: Op, scale: Floats, shift: Floats) -> None:
    weights = editor.floats(op, 1)
    assert weights is not None
    along = scale if op.name == "DEPTHWISE_CONV_2D" else scale.reshape(-1, *[1] * (weights.ndim - 1))
    set_weights(editor, op, weights * along, bias_of(editor, op) * scale + shift)


def _scale_inputs(editor: Editor, reader: Op, op: Op, source: int, scale: Floats, shift: Floats) -> bool:
    """A shift cannot go into a layer that pads with zeros."""
    if reader.name not in LAYERS or not owns_weights(editor, reader) or reader.inputs[0] != op.outputs[0]:
        return False
    weights = editor.floats(reader, 1)
    assert weights is not None
    depthwise = reader.name == "DEPTHWISE_CONV_2D"
    if weights.shape[-1] != scale.size or (depthwise and reader.option("depthMultiplier", 1) != 1):
        return False
    if bool(shift.any()) and not pads_nothing(editor, reader):
        return False
    shifted = weights * shift
    change = shifted.sum(axis=(0, 1, 2)) if depthwise else shifted.reshape(len(weights), -1).sum(axis=1)
    set_weights(editor, reader, weights * scale, bias_of(editor, reader) + change)
    reader.inputs[0] = source
    editor.remove(op)
    return True
