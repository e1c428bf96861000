"""Transposes sink through ops that do not care about the order of axes, until they meet another one and cancel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeloop.graph import Op, Tensor
from edgeloop_converters.passes.graph.editing import Editor

_UNARY = frozenset(
    {
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "LOGISTIC",
        "TANH",
        "HARD_SWISH",
        "LEAKY_RELU",
        "ELU",
        "GELU",
        "ABS",
        "NEG",
        "EXP",
    }
    | {"SQRT", "RSQRT", "SQUARE"}
)
_BINARY = frozenset({"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"})
_AXES = frozenset({"CONCATENATION", "PAD", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})
"""These name axes: passed where every input comes through the same transpose, and reductions keep their axes."""


def cancel_transposes(editor: Editor) -> int:
    """TRANSPOSE of a TRANSPOSE -> one, which `remove_idle` takes out when it does nothing."""
    count = 0
    for second in list(editor.main.ops):
        order = _order(editor, second)
        first = editor.maker(second.inputs[0]) if order is not None else None
        inner = _order(editor, first) if first is not None else None
        if order is None or first is None or inner is None:
            continue
        editor.set_constant(second, 1, np.array([inner[i] for i in order], np.int32))
        second.inputs[0] = first.inputs[0]
        count += 1
    return count


def sink_transposes(editor: Editor) -> int:
    """op(TRANSPOSE(x)) -> TRANSPOSE(op(x)), where there is a transpose further down to meet."""
    count = 0
    for op in list(editor.main.ops):
        moved = _sunk(editor, op)
        if moved is None:
            continue
        order, sources = moved
        out = editor.main.tensors[op.outputs[0]]
        inverse = np.argsort(order)
        shape = tuple(out.shape[i] for i in inverse)
        inner = editor.main.add_tensor(Tensor(f"{out.name}/before_transpose", shape, out.dtype))
        perm = editor.add(f"{out.name}/order", np.array(order, np.int32))
        at = next(i for i, other in enumerate(editor.main.ops) if other is op)
        editor.main.ops.insert(at + 1, Op("TRANSPOSE", [inner, perm], list(op.outputs), _options()))
        op.inputs, op.outputs = sources, [inner]
        count += 1
    return count


def _options() -> object:
    from edgeloop.graph import make_options

    return make_options("TransposeOptions")


def _order(editor: Editor, op: Op) -> list[int] | None:
    if op.name != "TRANSPOSE" or op.custom:
        return None
    how = editor.data(op.inputs[1])
    return None if how is None else [int(i) for i in np.asarray(how).ravel().tolist()]


def _sunk(editor: Editor, op: Op) -> tuple[list[int], list[int]] | None:
    """(the order, the op's inputs before it); None where the transpose cannot pass."""
    if op.custom or len(op.outputs) != 1 or editor.main.tensors[op.outputs[0]].dtype != "float32":
        return None
    if op.name not in _UNARY | _BINARY | _AXES or not _leads_to_transpose(editor, op.outputs[0]):
        return None
    if op.name in _AXES:
        return _sunk_by_axis(editor, op)
    orders: list[Sequence[int]] = []
    sources = []
    for index in op.inputs:
        if editor.data(index) is not None:
            sources.append(index)
            continue
        maker = editor.maker(index)
        order = _order(editor, maker) if maker is not None else None
        if order is None or maker is None or editor.shape(index) != editor.shape(op.outputs[0]):
            return None
        orders.append(order)
        sources.append(maker.inputs[0])
    if not orders or any(order != orders[0] for order in orders):
        return None
    order = list(orders[0])
    for position, index in enumerate(op.inputs):
        values = editor.data(index)
        if values is None or values.size == 1:
            continue
        full = np.asarray(values).reshape((1,) * (len(order) - values.ndim) + values.shape)
        turned = np.ascontiguousarray(np.transpose(full, np.argsort(order)))
        sources[position] = editor.add(f"{editor.main.tensors[index].name}/turned", turned)
    return order, sources


def _sunk_by_axis(editor: Editor, op: Op) -> tuple[list[int], list[int]] | None:
    """As `_sunk`; the op's axes become those before the transpose."""
    count = len(op.inputs) if op.name == "CONCATENATION" else 1
    makers = [editor.maker(i) for i in op.inputs[:count]]
    orders = [_order(editor, maker) if maker is not None else None for maker in makers]
    order = orders[0] if orders else None
    if order is None or any(other != order for other in orders):
        return None
    sources = [maker.inputs[0] for maker in makers if maker is not None]
    if op.name == "CONCATENATION":
        op.options.axis = order[op.option("axis") % len(order)]
        return order, sources
    how = editor.data(op.inputs[1])
    if how is None or (op.name != "PAD" and not op.option("keepDims", False)):
        return None
    values = np.asarray(how)
    if op.name == "PAD":
        turned = values.reshape(-1, 2)[np.argsort(order)]
    else:
        turned = np.sort(np.array([order[int(axis) % len(order)] for axis in values.ravel()])).astype(values.dtype)
    return order, [
        *sources,
        editor.add(f"{editor.main.tensors[op.inputs[1]].name}/turned", np.ascontiguousarray(turned)),
    ]


def _leads_to_transpose(editor: Editor, index: int) -> bool:
    """Following single readers that a transpose could pass."""
    for _ in range(len(editor.main.ops)):
        reader = editor.only_reader(index)
        if reader is None or reader.custom or not reader.outputs:
            return False
        if reader.name == "TRANSPOSE":
            return True
        if reader.name not in _UNARY | _BINARY | _AXES:
            return False
        index = reader.outputs[0]
    return False
