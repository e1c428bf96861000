"""Ops that XNNPACK, the fast CPU delegate, takes. Measured on LiteRT 2.3 with one-op models in every number format.

tflite-runtime 2.14, the only runtime for 32-bit Arm, was built without the 8-bit part: float32 only there.
"""

from __future__ import annotations

import math

from edgeloop.graph import Graph, Op, Subgraph, Tensor
from edgeloop.targets import Target

_EIGHT_BIT = frozenset({"int8", "uint8"})
_ANY_FORMAT = frozenset(
    {
        "ADD", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "ELU",
        "FULLY_CONNECTED", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "REDUCE_MAX", "REDUCE_MIN",
        "RESHAPE", "RESIZE_BILINEAR", "SLICE", "SPACE_TO_DEPTH", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
        "TRANSPOSE_CONV",
    }
)  # fmt: skip
"""Float32 and quantized 8-bit."""
_FLOAT_ONLY = frozenset(
    {
        "ABS", "AVERAGE_POOL_2D", "CEIL", "COS", "DIV", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LOG", "MAXIMUM",
        "MINIMUM", "NEG", "PRELU", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SOFTMAX", "SQRT",
        "SQUARE", "SQUARED_DIFFERENCE",
    }
)  # fmt: skip
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
_HYBRID = frozenset({"CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
"""Float activations on 8-bit weights."""
_SHAPE_INPUT = {"RESHAPE": 1, "PAD": 1, "TRANSPOSE": 1, "MEAN": 1, "SUM": 1, "RESIZE_BILINEAR": 1, "SLICE": 1}
"""Position of an input that must be known beforehand."""
_FUSED = frozenset({0, 1, 2, 3})
"""NONE, RELU, RELU_N1_TO_1, RELU6."""
_SUM_SCALES = (2.0**-10, 2.0**8)
"""Input scale / output scale that its 8-bit additions can represent."""
_PRODUCT_SCALES = (2.0**-16, 2.0**8)
"""Product of the input scales / output scale that its 8-bit multiplications can represent."""
_TOO_FAR = "the scales of its input and output are too far apart"


def refusals(graph: Graph, target: Target | None) -> list[str]:
    """For each op of the main subgraph: "" or why XNNPACK does not take it."""
    float_only = target is not None and target.architecture == "armv7l"
    unpacked = _unpacked(graph.main)
    return [_refusal(op, graph.main, float_only, unpacked) for op in graph.main.ops]


def _unpacked(subgraph: Subgraph) -> frozenset[int]:
    """Tensors that DEQUANTIZE makes of constants: weights stored as float16, which XNNPACK unpacks once."""
    return frozenset(
        op.outputs[0]
        for op in subgraph.ops
        if op.name == "DEQUANTIZE" and op.outputs and op.inputs and subgraph.constant(op.inputs[0]) is not None
    )


def _refusal(op: Op, subgraph: Subgraph, float_only: bool, unpacked: frozenset[int]) -> str:
    if op.custom:
        return "a custom op"
    activations = _activations(op, subgraph)
    formats = {t.dtype for t in activations}
    if float_only and formats & _EIGHT_BIT:
        return "the 32-bit Arm runtime has no fast 8-bit kernels"
    if op.name in ("QUANTIZE", "DEQUANTIZE"):
        return _conversion(op, subgraph)
    if op.name not in _ANY_FORMAT | _FLOAT_ONLY:
        return "the op is not in its list"
    if "int16" in formats:
        return "16-bit activations have no fast kernels"
    if len(formats) != 1 or not formats <= _EIGHT_BIT | {"float32"}:
        return f"no kernel for {' and '.join(sorted(formats)) or 'these types'}"
    if formats <= _EIGHT_BIT:
        if op.name in _FLOAT_ONLY:
            return f"only float32, this is {activations[0].dtype}"
        if op.name == "ELU" and "uint8" in formats:
            return "no kernel for uint8"
    return _weights(op, subgraph, formats, unpacked) or _details(op, subgraph, activations)


def _activations(op: Op, subgraph: Subgraph) -> list[Tensor]:
    """Inputs and outputs that carry values; constant integers without quantization are shapes and axes."""
    tensors = [t for t in subgraph.input_tensors(op) if t is not None and not t.is_constant]
    shaped = _SHAPE_INPUT.get(op.name)
    if shaped is not None and len(op.inputs) > shaped and op.inputs[shaped] >= 0:
        argument = subgraph.tensors[op.inputs[shaped]]
        tensors = [t for t in tensors if t is not argument]
    return tensors + [subgraph.tensors[i] for i in op.outputs if i >= 0]


def _conversion(op: Op, subgraph: Subgraph) -> str:
    if not op.inputs or op.inputs[0] < 0 or not op.outputs or op.outputs[0] < 0:
        return "it has no input or output"
    source, result = subgraph.tensors[op.inputs[0]].dtype, subgraph.tensors[op.outputs[0]].dtype
    if op.name == "DEQUANTIZE":
        taken = source in _EIGHT_BIT | {"float16"} and result == "float32"
    else:
        taken = result in _EIGHT_BIT and source in ("float32", result)
    return "" if taken else f"no kernel from {source} to {result}"


def _weights(op: Op, subgraph: Subgraph, formats: set[str], unpacked: frozenset[int]) -> str:
    if op.name not in _WEIGHTED and op.name != "FULLY_CONNECTED":
        strange = {t.dtype for t in subgraph.input_tensors(op) if t is not None and t.is_quantized} - formats
        return f"no kernel for {' and '.join(sorted(formats | strange))} together" if strange else ""
    if len(op.inputs) < 2 or op.inputs[1] < 0:
        return "it has no weights"
    weights = subgraph.tensors[op.inputs[1]]
    if not weights.is_constant and op.name in _WEIGHTED and op.inputs[1] not in unpacked:
        return "its weights are computed"
    if weights.dtype == "int4":
        if op.name != "FULLY_CONNECTED":
            return "int4 weights have kernels in FULLY_CONNECTED only"
        return "int4 weights need an even number of inputs" if weights.shape[-1] % 2 else ""
    if "float32" in formats and weights.dtype != "float32" and weights.is_constant:
        if op.name not in _HYBRID:
            return f"no kernel for float activations on {weights.dtype} weights"
        if weights.quantization is not None and weights.is_per_channel and weights.quantization.dimension != 0:
            return "weights are scaled along another axis than the output's"
    return ""


def _details(op: Op, subgraph: Subgraph, activations: list[Tensor]) -> str:
    if op.option("fusedActivationFunction") not in _FUSED:
        return "its fused activation has no kernel"
    position = _SHAPE_INPUT.get(op.name)
    given = position is not None and len(op.inputs) > position and op.inputs[position] >= 0
    if position is not None and given and not subgraph.tensors[op.inputs[position]].is_constant:
        return "its shape or axes are computed"
    return _scales(op, subgraph, activations) if activations[-1].dtype in _EIGHT_BIT else ""


def _scales(op: Op, subgraph: Subgraph, activations: list[Tensor]) -> str:
    """Of 8-bit ops."""
    inputs = [t for t in subgraph.input_tensors(op) if t is not None]
    if op.name == "BATCH_MATMUL":
        return "its second input has a zero point" if len(inputs) > 1 and inputs[1].affine.zero_point else ""
    scale = activations[-1].affine.scale
    ratios, (least, most) = [], _SUM_SCALES
    if op.name in ("ADD", "SUB"):
        ratios = [t.affine.scale / scale if scale else 1.0 for t in inputs]
    elif op.name == "MUL":
        ratios = [math.prod(t.affine.scale for t in inputs) / scale if scale else 1.0]
        least, most = _PRODUCT_SCALES
    return "" if all(least <= ratio < most for ratio in ratios) else _TOO_FAR
