"""What to change in a model so that a delegate takes more of it. A table: which refusals -> what to do instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeloop.analysis.edgetpu import FOLLOWS
from edgeloop.graph import Graph
from edgeloop.graph.naming import printable

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
_TAIL_SHARE = 0.25
"""Cutting a model pays off where no more than this share of its ops lies behind the cut."""


@dataclass(frozen=True)
class Rewrite:
    """One suggestion. `ops`: indices of the ops it is about."""

    text: str
    ops: tuple[int, ...]


_RELU = "use ReLU or ReLU6, or x * sigmoid(x): these it takes"
_BEHIND = "leave it to the host: let the model end before it"

_BY_OP: Mapping[str, Mapping[str, str]] = {
    "edgetpu": {
        "ARG_MAX": "leave it out of the model: the contract's decoder takes the largest value",
        "ARG_MIN": _BEHIND,
        "BATCH_MATMUL": "products with constant weights as FULLY_CONNECTED or a 1x1 convolution; others stay off",
        "BATCH_TO_SPACE_ND": "fix the input size and convert again: a dilated convolution is then one op",
        "DEPTH_TO_SPACE": "use TRANSPOSE_CONV with stride 2, or a 2x resize and a convolution",
        "DIV": "multiply by the reciprocal where the divisor is constant",
        "ELU": _RELU,
        "EXP": _BEHIND,
        "GATHER": "use SLICE or STRIDED_SLICE where the indices are constant and in order",
        "GELU": _RELU,
        "HARD_SWISH": "use ReLU6 or ReLU (MobileNetV3 has it as `minimalistic`), or x * sigmoid(x)",
        "LEAKY_RELU": "use PReLU with shared axes [1, 2], or maximum(x, alpha * x)",
        "MIRROR_PAD": "pad with zeros (PAD)",
        "PADV2": "pad with zeros (PAD)",
        "SPACE_TO_BATCH_ND": "fix the input size and convert again: a dilated convolution is then one op",
        "SPLIT_V": "split into equal parts (SPLIT), or use STRIDED_SLICE",
        "SQRT": _BEHIND,
        "TFLite_Detection_PostProcess": "nothing to do: box decoding runs on the CPU in every Edge TPU model",
        "TILE": "upsample by a resize op or Conv2DTranspose",
        "UNPACK": "use STRIDED_SLICE",
        "WHILE": "build recurrent layers so that they become one op (Keras 2 LSTM), or unroll them",
    },
    "xnnpack": {
        "AVERAGE_POOL_2D": "average the whole map as GlobalAveragePooling2D (MEAN): that has 8-bit kernels",
        "DIV": "multiply by the reciprocal where the divisor is constant",
        "GELU": "use x * sigmoid(x) or ReLU: these have 8-bit kernels",
        "HARD_SWISH": "use x * sigmoid(x) or ReLU: these have 8-bit kernels",
        "MAXIMUM": "use ReLU or LeakyReLU where it stands for one",
        "PRELU": "use LeakyReLU: it has 8-bit kernels",
        "RELU": "put the activation right behind a convolution or dense layer: it is fused there",
        "RELU6": "put the activation right behind a convolution or dense layer: it is fused there",
        "SOFTMAX": "let the model end before it where only the order of classes counts",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "a convolution over time has fast kernels",
    },
}
"""Delegate -> op -> what to use instead, for ops that it does not have (for these numbers)."""

_BY_REASON: tuple[tuple[str, str, str], ...] = (
    ("", "the shape is not fixed", "make the shape static: convert with `--shape {shape}`"),
    ("", "shape or axes are computed", "make the shape static: convert with `--shape {shape}`"),
    (
        "edgetpu",
        "more than 3 dimensions in use",
        "batch 1, and at most 3 dimensions larger than 1; upsampling as a resize op or Conv2DTranspose",
    ),
    ("edgetpu", "a scale per channel", "one scale per tensor: convert with `--target coral-usb`"),
    ("edgetpu", "its output has more than one dimension", "a 1x1 convolution does the same on [1, H, W, C]"),
    ("edgetpu", "this has int16", "8-bit activations: `--scheme int8`"),
    ("edgetpu", "this has float", "quantize it: convert with `--target coral-usb`"),
    ("edgetpu", "a resize from", "resize by 2 at a time to at most 2 MB, or leave the last resize to the host"),
    ("edgetpu", "only strides of 1", "use a pooling or convolution with that stride"),
    ("edgetpu", "cannot read the model", "convert it with edgeloop, or build the model without the op that is named"),
    ("edgetpu", "dilation differs", "the same dilation in height and width"),
    ("edgetpu", "no fused activation here", "put the activation behind it as an op of its own"),
    ("xnnpack", "16-bit activations", "8-bit activations: `--scheme int8`"),
    ("xnnpack", "int4 weights", "keep its speed and the small file: `--scheme int8-compact`"),
    ("xnnpack", "float activations on", "quantize activations, too: `--scheme int8`"),
    ("xnnpack", "too far apart", "calibrate again: a range is far too wide (`edgeloop check-data`)"),
    ("xnnpack", "no fast 8-bit kernels", "a 64-bit system on this board, or `--scheme float`"),
)
"""(delegate or "" for all, part of the reason, what to do); the first that fits counts, before the tables by op."""


def rewrites(graph: Graph, delegate: str, reasons: Sequence[str]) -> tuple[Rewrite, ...]:
    """Suggestions in the order of the ops they are about, each once. `reasons`: "" for ops that the delegate takes."""
    found: dict[str, list[int]] = {}
    for index, reason in enumerate(reasons):
        if reason and not reason.startswith(FOLLOWS):
            text = _suggestion(graph, delegate, index, reason)
            if text:
                found.setdefault(text, []).append(index)
    suggestions = [Rewrite(_named(graph, text, ops), tuple(ops)) for text, ops in found.items()]
    return (*suggestions, *_cut(graph, reasons))


def _suggestion(graph: Graph, delegate: str, index: int, reason: str) -> str:
    op = graph.main.ops[index]
    if delegate == "edgetpu" and op.name in _CONVERSIONS and op.inputs and op.inputs[0] in graph.main.inputs:
        return "give the model int8 or uint8 inputs (`--io int8`): the host then has nothing to convert"
    if delegate == "edgetpu" and op.name == "DEQUANTIZE" and op.outputs and op.outputs[0] in graph.main.outputs:
        return "give the model int8 outputs (`--io int8`): the contract's decoder dequantizes"
    if op.name in _CONVERSIONS:
        return ""  # the borders of another op's refusal
    by_op = _BY_OP.get(delegate, {}).get(op.name, "")
    for name, part, text in _BY_REASON:
        if name in ("", delegate) and part in reason and not (part == "this has float" and by_op):
            return text.format(shape=_shape(graph))
    return by_op


def _shape(graph: Graph) -> str:
    """Of the first input, with a size that is free set to what memory is planned for."""
    if not graph.inputs:
        return "1,..."
    return ",".join(str(max(extent, 1)) for extent in graph.inputs[0].shape)


def _named(graph: Graph, text: str, ops: Sequence[int]) -> str:
    names = list(dict.fromkeys(printable(graph.main.ops[index].name) for index in ops))
    more = f" and {len(names) - 3} kinds more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}: {text}"


def _cut(graph: Graph, reasons: Sequence[str]) -> tuple[Rewrite, ...]:
    """A tail that stays off behind an op that could not be taken: where to cut the model."""
    held = [i for i, reason in enumerate(reasons) if reason.startswith(FOLLOWS)]
    taken = [i for i, reason in enumerate(reasons) if not reason]
    if not held or not taken:
        return ()
    end = next((i for i, reason in enumerate(reasons) if reason and i > taken[0] and i < held[-1]), held[0])
    off = sum(bool(reason) for reason in reasons[end:])
    if off > _TAIL_SHARE * len(reasons):
        return ()
    name = printable(graph.main.ops[end].name)
    return (
        Rewrite(f"{name}: cut the model before op {end} and run what is behind it, {off} ops, on the host", (end,)),
    )
