"""Ops replaced by others: those that are the same function always, others only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeloop.errors import UsageError
from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import Editor, activation, is_linear

_RELU, _RELU6 = 1, 3


@dataclass(frozen=True)
class Replacement:
    """exact: the same function. undone_by: names of rules that would turn it back."""

    rule: Callable[[Editor], int]
    exact: bool = True
    undone_by: tuple[str, ...] = ()


def replacements_named(names: Sequence[str]) -> dict[str, Replacement]:
    """Raises UsageError for a name that is not in `REPLACEMENTS`."""
    for name in names:
        if name not in REPLACEMENTS:
            raise UsageError(f"replacement {name!r} is not known", hint=f"one of: {', '.join(REPLACEMENTS)}")
    return {name: REPLACEMENTS[name] for name in names}


def silu_to_hard_swish(editor: Editor) -> int:
    """x * sigmoid(x) -> x * relu6(x + 3) / 6 (Howard et al. 2019): another function."""
    count = 0
    for mul in list(editor.main.ops):
        if mul.name != "MUL" or not is_linear(mul) or len(set(mul.inputs)) != 2:
            continue
        for gate, x in (mul.inputs, mul.inputs[::-1]):
            sigmoid = editor.only_maker(gate)
            if sigmoid is None or sigmoid.name != "LOGISTIC" or sigmoid.inputs[0] != x:
                continue
            _swap(editor, mul, [Op("HARD_SWISH", [x], list(mul.outputs), _options("HardSwishOptions"))])
            editor.remove(sigmoid)
            count += 1
            break
    return count


def hard_swish_to_relu6(editor: Editor) -> int:
    """HARD_SWISH -> (x / 6) * relu6(x + 3), of ops that have 8-bit kernels nearly everywhere."""
    count = 0
    for op in _named(editor, "HARD_SWISH"):
        x = op.inputs[0]
        three, sixth = (editor.add(f"hard_swish/{n}", np.array(v, np.float32)) for n, v in (("3", 3.0), ("6", 1 / 6)))
        gate, scaled = _like(editor, op, "gate"), _like(editor, op, "scaled")
        _swap(editor, op, [
            Op("ADD", [x, three], [gate], _options("AddOptions", fusedActivationFunction=_RELU6)),
            Op("MUL", [x, sixth], [scaled], _options("MulOptions")),
            Op("MUL", [scaled, gate], list(op.outputs), _options("MulOptions")),
        ])  # fmt: skip
        count += 1
    return count


def prelu_to_leaky(editor: Editor) -> int:
    """PRELU with one slope for all -> LEAKY_RELU, or RELU where the slope is 0: the same function."""
    return _to_leaky(editor, most_spread=0.0)


def prelu_to_leaky_relu(editor: Editor) -> int:
    """PRELU -> LEAKY_RELU with the mean of its slopes: another function, unless all slopes are one."""
    return _to_leaky(editor, most_spread=float("inf"))


def _to_leaky(editor: Editor, most_spread: float) -> int:
    count = 0
    for op in _named(editor, "PRELU"):
        slopes = editor.floats(op, 1)
        if slopes is None or np.ptp(slopes) > most_spread:
            continue
        alpha = float(slopes.mean())
        op.name, op.inputs = ("RELU" if alpha == 0 else "LEAKY_RELU"), op.inputs[:1]
        op.options = _options("LeakyReluOptions", alpha=alpha) if alpha != 0 else None
        count += 1
    return count


def leaky_relu_to_prelu(editor: Editor) -> int:
    """LEAKY_RELU -> PRELU with that slope for every channel, which is what Edge TPUs know."""
    count = 0
    for op in _named(editor, "LEAKY_RELU"):
        shape = editor.shape(op.inputs[0])
        slopes = np.full((*(1,) * (len(shape) - 2), shape[-1]), float(getattr(op.options, "alpha", 0.0)), np.float32)
        op.name, op.inputs, op.options = "PRELU", [op.inputs[0], editor.add("prelu/slopes", slopes)], None
        count += 1
    return count


def prelu_to_relu(editor: Editor) -> int:
    """PRELU -> relu(x) - a relu(-x)."""
    count = 0
    for op in _named(editor, "PRELU"):
        x, slopes = op.inputs
        if editor.floats(op, 1) is None:
            continue
        above, below, bent = (_like(editor, op, part) for part in ("above", "below", "bent"))
        minus = editor.add("prelu/minus", np.array(-1.0, np.float32))
        _swap(editor, op, [
            Op("RELU", [x], [above]),
            Op("MUL", [x, minus], [below], _options("MulOptions", fusedActivationFunction=_RELU)),
            Op("MUL", [below, slopes], [bent], _options("MulOptions")),
            Op("SUB", [above, bent], list(op.outputs), _options("SubOptions")),
        ])  # fmt: skip
        count += 1
    return count


def prelu_from_parts(editor: Editor) -> int:
    """relu(x) - a relu(-x), as exporters of PyTorch write a PReLU, -> PRELU."""
    count = 0
    for op in [*_named(editor, "SUB"), *_named(editor, "ADD")]:
        if not is_linear(op) or not any(o is op for o in editor.main.ops):
            continue
        for above, bent in (op.inputs, op.inputs[::-1])[: 1 if op.name == "SUB" else 2]:
            found = _bent(editor, above, bent)
            if found is None:
                continue
            x, slopes, parts = found
            slopes = slopes if op.name == "SUB" else -slopes
            channels = editor.shape(x)[-1]
            full = np.broadcast_to(slopes.reshape(-1), (channels,)).astype(np.float32)
            shape = (*(1,) * (len(editor.shape(x)) - 2), channels)
            told = editor.add(f"{editor.main.tensors[op.outputs[0]].name}/slopes", full.reshape(shape))
            _swap(editor, op, [Op("PRELU", [x, told], list(op.outputs))])
            for part in parts:
                editor.remove(part)
            count += 1
            break
    return count


def _bent(editor: Editor, above: int, bent: int) -> tuple[int, Any, list[Op]] | None:
    """(x, a, ops) where `above` is relu(x) and `bent` is a relu(-x), a one number or one per channel."""
    relu, mul = editor.only_maker(above), editor.only_maker(bent)
    if relu is None or mul is None or relu.name != "RELU" or mul.name != "MUL" or not is_linear(mul):
        return None
    x = relu.inputs[0]
    at = next((p for p in (1, 0) if editor.floats(mul, p) is not None), None)
    slopes = editor.floats(mul, at) if at is not None else None
    if at is None or slopes is None or slopes.size not in (1, editor.shape(x)[-1] if editor.shape(x) else 1):
        return None
    if slopes.size > 1 and slopes.shape[-1] != slopes.size:
        return None
    below = editor.only_maker(mul.inputs[1 - at])
    parts = [relu, mul]
    if below is not None and below.name == "RELU":
        parts.append(below)
        below = editor.only_maker(below.inputs[0])
        fused = below is not None and activation(below) == 0
    else:
        fused = below is not None and activation(below) == _RELU
    if below is None or not fused:
        return None
    parts.append(below)
    if below.name == "NEG":
        return (x, slopes, parts) if below.inputs[0] == x else None
    minus = next((editor.floats(below, p) for p in (0, 1) if editor.floats(below, p) is not None), None)
    negated = below.name == "MUL" and x in below.inputs and minus is not None and bool((minus == -1).all())
    return (x, slopes, parts) if negated else None


def clip_to_relu(editor: Editor) -> int:
    """MAXIMUM with 0 -> RELU, MINIMUM of a RELU with 6 -> RELU6."""
    count = 0
    for op in [*_named(editor, "MAXIMUM"), *_named(editor, "MINIMUM")]:
        bound = next(((p, v) for p in (1, 0) if (v := editor.floats(op, p)) is not None), None)
        if bound is None or bound[1].size != 1 or not any(o is op for o in editor.main.ops):
            continue
        source, value = op.inputs[1 - bound[0]], float(bound[1].flat[0])
        if editor.shape(source) != editor.shape(op.outputs[0]):
            continue
        if op.name == "MAXIMUM" and value == 0:
            op.name, op.inputs, op.options = "RELU", [source], None
            count += 1
            continue
        relu = editor.only_maker(source) if op.name == "MINIMUM" and value == 6 else None
        if relu is not None and relu.name == "RELU":
            op.name, op.inputs, op.options = "RELU6", [relu.inputs[0]], None
            editor.remove(relu)
            count += 1
    return count


def depthwise_of_one_channel(editor: Editor) -> int:
    """DEPTHWISE_CONV_2D on one channel, as PyTorch's exporter writes a first layer, -> CONV_2D, which it is."""
    count = 0
    for op in _named(editor, "DEPTHWISE_CONV_2D"):
        weights = editor.floats(op, 1)
        if weights is None or editor.shape(op.inputs[0])[-1:] != (1,):
            continue
        kept = ("padding", "strideH", "strideW", "dilationHFactor", "dilationWFactor", "fusedActivationFunction")
        options = {name: op.option(name, int("strid" in name or "dilation" in name)) for name in kept}
        op.name, op.options, op.version = "CONV_2D", _options("Conv2DOptions", **options), 1
        editor.set_constant(op, 1, weights.transpose(3, 1, 2, 0))
        count += 1
    return count


REPLACEMENTS: Mapping[str, Replacement] = {
    "silu:hard-swish": Replacement(silu_to_hard_swish, exact=False),
    "prelu:leaky-relu": Replacement(prelu_to_leaky_relu, exact=False),
    "leaky-relu:prelu": Replacement(leaky_relu_to_prelu, undone_by=("PReLUs simplified",)),
    "prelu:relu": Replacement(prelu_to_relu, undone_by=("PReLUs put together", "PReLUs simplified")),
    "hard-swish:relu6": Replacement(hard_swish_to_relu6),
}
"""What may be asked for, from:to -> how. Which pays where: docs/pruning.md."""


def _named(editor: Editor, name: str) -> list[Op]:
    return [op for op in editor.main.ops if op.name == name and not op.custom and editor.is_float(op)]


def _swap(editor: Editor, old: Op, new: Sequence[Op]) -> None:
    at = next(i for i, op in enumerate(editor.main.ops) if op is old)
    editor.main.ops[at : at + 1] = list(new)


def _like(editor: Editor, op: Op, part: str) -> int:
    """A tensor of the shape of the op's output."""
    from edgeloop.graph import Tensor

    out = editor.main.tensors[op.outputs[0]]
    return editor.main.add_tensor(Tensor(f"{out.name}/{part}", out.shape, out.dtype))


def _options(name: str, **values: Any) -> Any:
    from edgeloop.graph import make_options

    return make_options(name, **values)
