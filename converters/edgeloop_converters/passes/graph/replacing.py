"""Ops replaced by others. Exact ones always; those that change the function only when asked for."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import Editor, is_linear


def silu_to_hard_swish(editor: Editor) -> int:
    """x * sigmoid(x) -> x * relu6(x + 3) / 6 (Howard et al. 2019): another function, so it must be asked for."""
    count = 0
    for mul in list(editor.main.ops):
        if mul.name != "MUL" or not is_linear(mul) or len(set(mul.inputs)) != 2:
            continue
        for gate, x in (mul.inputs, mul.inputs[::-1]):
            sigmoid = editor.only_maker(gate)
            if sigmoid is None or sigmoid.name != "LOGISTIC" or sigmoid.inputs[0] != x:
                continue
            at = next(i for i, op in enumerate(editor.main.ops) if op is mul)
            editor.main.ops[at] = Op("HARD_SWISH", [x], list(mul.outputs), _options("HardSwishOptions"))
            editor.remove(sigmoid)
            count += 1
            break
    return count


def prelu_to_leaky(editor: Editor) -> int:
    """PRELU with one slope for all -> LEAKY_RELU, or RELU where the slope is 0: the same function."""
    count = 0
    for op in list(editor.main.ops):
        slopes = editor.floats(op, 1) if op.name == "PRELU" else None
        if slopes is None or np.ptp(slopes) != 0:
            continue
        alpha = float(slopes.flat[0])
        op.name, op.inputs = ("RELU" if alpha == 0 else "LEAKY_RELU"), op.inputs[:1]
        op.options = None
        if alpha != 0:
            op.options = _options("LeakyReluOptions")
            op.options.alpha = alpha
        count += 1
    return count


def _options(name: str) -> object:
    from edgeloop.graph import make_options

    return make_options(name)
