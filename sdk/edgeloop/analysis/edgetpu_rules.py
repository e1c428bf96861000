"""Which single op an Edge TPU takes, and within which limits. The evidence for each rule: docs/coral.md.

Sources: Coral's table of supported operations ("TensorFlow models on the Edge TPU"), logs of the real compiler that its
users published, and what it left on the CPU in compiled models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeloop.graph import Op, Subgraph, Tensor

EIGHT_BIT = frozenset({"int8", "uint8"})
NEWEST_VERSIONS: Mapping[str, int] = {"CONV_2D": 5, "FULLY_CONNECTED": 9, "REVERSE_V2": 2}
"""Newest version the compiler's reader knows, where that was seen to matter. A newer one, and it reads no op at all."""
_MAX_SOFTMAX = 16_000
_MAX_RESIZE = 8
_MAX_RESIZE_BYTES = 2 << 20
"""Coral says that some resizes are left to the CPU, not which. Factor: 2 is mapped, 33 is not. Bytes that come out:
0.5 MB is mapped, 3 MB is not."""

Limit = Callable[[Op, Subgraph, list[Tensor], list[Tensor]], str]


def refusal(op: Op, subgraph: Subgraph) -> str:
    """ "" where an Edge TPU takes the op, seen by itself, else why not."""
    limit = OPERATIONS.get(op.name)
    if op.custom or limit is None:
        return "the op is not in Coral's list"
    inputs = [t for t in subgraph.input_tensors(op) if t is not None]
    outputs = [subgraph.tensors[i] for i in op.outputs if i >= 0]
    values = [t for t in inputs if not t.is_constant and not t.is_variable] + outputs
    for tensor in values:
        if tensor.dtype not in EIGHT_BIT:
            return f"only 8-bit integers, this has {tensor.dtype}"
        if not tensor.is_quantized:
            return "a tensor is not quantized"
        if not tensor.is_static:
            return f"the shape is not fixed {list(tensor.shape_signature or tensor.shape)}"
        if any(extent > 1 for extent in tensor.shape[:-3]):
            return f"more than 3 dimensions in use {list(tensor.shape)}"
    for tensor in inputs:
        if tensor.is_constant and tensor.dtype in ("float32", "float16", "int4", "int2"):
            return f"its weights are {tensor.dtype}"
    if not inputs or not outputs:
        return "it has no input or output"
    return limit(op, subgraph, inputs, outputs)


def _none(_op: Op, _subgraph: Subgraph, _inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    return ""


def _weights(op: Op, subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    """Weights stand at 1 with the bias behind them; behind TRANSPOSE_CONV's weights come the activations."""
    bias_at = 3 if op.name == "TRANSPOSE_CONV" else 2
    bias = subgraph.tensors[op.inputs[bias_at]] if len(op.inputs) > bias_at and op.inputs[bias_at] >= 0 else None
    if len(inputs) < 2 or not any(t.is_constant for t in inputs[:2]):
        return "its weights are computed"
    if bias is not None and not bias.is_constant:
        return "its bias is computed"
    if op.option("dilationHFactor", 1) != op.option("dilationWFactor", 1):
        return "dilation differs between height and width"
    return ""


def _dense(op: Op, subgraph: Subgraph, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    if len(inputs) < 2 or not inputs[1].is_constant:
        return "its weights are computed"
    reason = _weights(op, subgraph, inputs, outputs)
    if reason:
        return reason
    if inputs[1].is_per_channel:
        return "its weights have a scale per channel; the Edge TPU wants one per tensor here"
    if op.option("weightsFormat"):
        return "only the default weights format"
    if sum(extent > 1 for extent in outputs[0].shape) > 1:
        return "its output has more than one dimension"
    return ""


def _not_fused(op: Op, _subgraph: Subgraph, _inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    return "no fused activation here" if op.option("fusedActivationFunction") else ""


def _concatenation(op: Op, subgraph: Subgraph, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    constants = [t for t in inputs if t.data is not None]
    if constants and (len(inputs) != 2 or any(np.any(t.data) for t in constants if t.data is not None)):
        return "a constant input is taken only next to one other, and all zero"
    return _not_fused(op, subgraph, inputs, outputs)


def _axes(op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    if len(inputs) < 2 or inputs[1].data is None or inputs[1].data.dtype.kind != "i":
        return "its axes are computed"
    rank = len(inputs[0].shape)
    axes = {int(axis) % rank for axis in inputs[1].data.reshape(-1)} if rank else set()
    if rank > 1 and 0 in axes:
        return "it reduces the batch dimension"
    if op.name == "MEAN" and rank > 1 and rank - 1 in axes and inputs[0].shape[-1] % 4:
        return "a mean over channels needs a multiple of 4"
    return ""


def _pad(_op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    if len(inputs) < 2 or inputs[1].data is None:
        return "its paddings are computed"
    paddings = inputs[1].data.reshape(-1)
    return "it pads the batch dimension" if len(inputs[0].shape) == 4 and np.any(paddings[:2]) else ""


def _prelu(_op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    if len(inputs) < 2 or any(extent > 1 for extent in inputs[1].shape[:-1]):
        return "alpha must be one value per channel"
    return ""


def _resize(_op: Op, _subgraph: Subgraph, inputs: list[Tensor], outputs: list[Tensor]) -> str:
    before, after = inputs[0].shape, outputs[0].shape
    if len(before) != 4 or len(after) != 4:
        return "it resizes other than height and width"
    sizes = f"a resize from {list(before[1:3])} to {list(after[1:3])}"
    if any(after[axis] > _MAX_RESIZE * max(before[axis], 1) for axis in (1, 2)):
        return f"{sizes} is left to the CPU to keep precision"
    if outputs[0].element_count > _MAX_RESIZE_BYTES:
        return f"{sizes} with {after[3]} channels is too large for it"
    return ""


def _softmax(_op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    if sum(extent > 1 for extent in inputs[0].shape) > 1 or inputs[0].element_count > _MAX_SOFTMAX:
        return "only over one dimension of at most 16,000"
    return ""


def _split(_op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    axis = next((t.data for t in inputs if t.data is not None and t.data.size == 1 and t.data.dtype.kind == "i"), None)
    rank = len(inputs[-1].shape)
    if axis is not None and rank > 1 and int(axis.reshape(-1)[0]) % rank == 0:
        return "it splits the batch dimension"
    return ""


def _pack(op: Op, _subgraph: Subgraph, _inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    return "it packs into the batch dimension" if op.option("axis") == 0 else ""


def _strided(op: Op, _subgraph: Subgraph, inputs: list[Tensor], _outputs: list[Tensor]) -> str:
    if len(inputs) < 4 or any(t.data is None for t in inputs[1:4]):
        return "its slice is computed"
    if np.any(inputs[3].data != 1):
        return "only strides of 1"
    return "no ellipsis or new axis" if op.option("ellipsisMask") or op.option("newAxisMask") else ""


OPERATIONS: Mapping[str, Limit] = {
    "ADD": _none,
    "AVERAGE_POOL_2D": _not_fused,
    "CONCATENATION": _concatenation,
    "CONV_2D": _weights,
    "DEPTHWISE_CONV_2D": _weights,
    "EXPAND_DIMS": _none,
    "FULLY_CONNECTED": _dense,
    "L2_NORMALIZATION": _none,
    "LOGISTIC": _none,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _none,
    "MAXIMUM": _none,
    "MAX_POOL_2D": _not_fused,
    "MEAN": _axes,
    "MINIMUM": _none,
    "MUL": _none,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "QUANTIZE": _none,
    "REDUCE_MAX": _axes,
    "REDUCE_MIN": _axes,
    "RELU": _none,
    "RELU6": _none,
    "RELU_N1_TO_1": _none,
    "RESHAPE": _none,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "RSQRT": _none,
    "SLICE": _none,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": _none,
    "SPLIT": _split,
    "SQUARED_DIFFERENCE": _none,
    "SQUEEZE": _none,
    "STRIDED_SLICE": _strided,
    "SUB": _none,
    "SUM": _axes,
    "TANH": _none,
    "TRANSPOSE": _none,
    "TRANSPOSE_CONV": _weights,
}
"""Builtin name -> its limits beyond those that hold for all ops."""
