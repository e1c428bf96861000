"""Transposes sink through ops that do not care about the order of axes, until they meet another one and cancel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Op, Tensor
from edgeloop_converters.passes.graph.editing import Editor

_UNARY = frozenset({
    "RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "ELU", "GELU", "ABS", "NEG", "EXP",
    "SQRT", "RSQRT", "SQUARE",
})  # fmt: skip
_BINARY = frozenset({"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"})
_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})
_AXES = frozenset({"CONCATENATION", "PAD", "SPLIT", "SLICE"}) | _REDUCTIONS
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
        at = next(i for i, other in enumerate(editor.main.ops) if other is op)
        inner = []
        for index in op.outputs:
            out = editor.main.tensors[index]
            shape = tuple(out.shape[i] for i in np.argsort(order))
            inner.append(editor.main.add_tensor(Tensor(f"{out.name}/before_transpose", shape, out.dtype)))
            perm = editor.add(f"{out.name}/order", np.array(order, np.int32))
            editor.main.ops.insert(at + 1, Op("TRANSPOSE", [inner[-1], perm], [index], _options()))
        op.inputs, op.outputs = sources, inner
        count += 1
    return count


def transpose_into_dense(editor: Editor) -> int:
    """A transpose, flattening, a dense layer -> flattening, the dense layer with its columns in the other order: what
    PyTorch's `flatten` behind convolutions becomes."""
    count = 0
    for dense in list(editor.main.ops):
        weights = editor.floats(dense, 1) if dense.name == "FULLY_CONNECTED" else None
        flatten = editor.only_maker(dense.inputs[0]) if weights is not None else None
        turn = editor.only_maker(flatten.inputs[0]) if flatten is not None and flatten.name == "RESHAPE" else None
        order = _order(editor, turn) if turn is not None else None
        if weights is None or flatten is None or turn is None or order is None or order[0] != 0:
            continue
        seen = editor.shape(turn.outputs[0])
        if seen[0] != 1 or weights.shape[-1] != math.prod(seen):
            continue
        columns = np.transpose(weights.reshape(len(weights), *seen[1:]), np.argsort(order))
        editor.set_constant(dense, 1, columns.reshape(weights.shape))
        flatten.inputs[0] = turn.inputs[0]
        editor.remove(turn)
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
    if op.custom or not op.outputs or editor.main.tensors[op.outputs[0]].dtype != "float32":
        return None
    if op.name not in _UNARY | _BINARY | _AXES or not any(_is_turned(editor, i) for i in op.inputs):
        return None
    if not all(_leads_to_transpose(editor, i) for i in op.outputs):
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
    at = range(len(op.inputs)) if op.name == "CONCATENATION" else range(1, 2) if op.name == "SPLIT" else range(1)
    makers = [editor.maker(op.inputs[i]) for i in at]
    orders = [_order(editor, maker) if maker is not None else None for maker in makers]
    order = orders[0] if orders else None
    if order is None or any(other != order for other in orders):
        return None
    if op.name in _REDUCTIONS and not op.option("keepDims", False):
        return None
    sources = list(op.inputs)
    for place, maker in zip(at, makers, strict=True):
        sources[place] = maker.inputs[0] if maker is not None else -1
    if op.name == "CONCATENATION":
        op.options.axis = order[op.option("axis") % len(order)]
        return order, sources
    for place in set(range(len(op.inputs))) - set(at):
        values = editor.data(op.inputs[place])
        if values is None:
            return None
        turned = _turned(op, np.asarray(values), order)
        sources[place] = editor.add(f"{editor.main.tensors[op.inputs[place]].name}/turned", turned)
    return order, sources


def _turned(op: Op, values: npt.NDArray[Any], order: Sequence[int]) -> npt.NDArray[Any]:
    """What an op says of the axes of a transposed tensor, said of those before."""
    if op.name in ("PAD", "SLICE"):  # something for each axis
        return np.ascontiguousarray(values[np.argsort(order)])
    turned = [order[int(axis) % len(order)] for axis in values.ravel()]
    return np.sort(np.array(turned, values.dtype)).reshape(values.shape)


def _is_turned(editor: Editor, index: int) -> bool:
    maker = editor.maker(index)
    return maker is not None and maker.name == "TRANSPOSE"


def _leads_to_transpose(editor: Editor, index: int) -> bool:
    """Following single readers that a transpose could pass, to one at every end."""
    ahead = [index]
    while ahead:
        reader = editor.only_reader(ahead.pop())
        if reader is None or reader.custom or reader.name not in {"TRANSPOSE"} | _UNARY | _BINARY | _AXES:
            return False
        if reader.name != "TRANSPOSE":
            ahead.extend(reader.outputs)
    return True
