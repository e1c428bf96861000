"""Operator versions of int8 ops, as TFLiteConverter 2.21 writes them.

ai-edge-quantizer leaves the float op's version. Runtimes do not mind, but the Edge TPU compiler goes by the version.
FULLY_CONNECTED counts only with one scale for all its weights: per channel is version 12, which runtimes before 2.17
do not know, although they run it.
"""

from __future__ import annotations

from edgeloop.graph import Graph, Op, Subgraph

_SECOND = (
    "ABS ADD ARG_MAX AVERAGE_POOL_2D CONCATENATION DEPTH_TO_SPACE DEQUANTIZE EXP GATHER GELU L2_NORMALIZATION "
    "LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD REDUCE_MAX RELU RSQRT SLICE SOFTMAX "
    "SPACE_TO_DEPTH SPLIT SQRT SQUARED_DIFFERENCE SUB SUM TANH TRANSPOSE_CONV"
)
INT8_VERSIONS = {**dict.fromkeys(_SECOND.split(), 2), "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}


def set_int8_versions(graph: Graph) -> None:
    """Raise the version of every op that computes in int8 to what int8 needs; never lower one."""
    for subgraph in graph.subgraphs:
        for op in subgraph.ops:
            if op.name in INT8_VERSIONS and _is_int8(op, subgraph):
                op.version = max(op.version, INT8_VERSIONS[op.name])


def _is_int8(op: Op, subgraph: Subgraph) -> bool:
    tensors = [t for t in subgraph.input_tensors(op) if t is not None]
    if op.name == "FULLY_CONNECTED" and any(t.is_per_channel for t in tensors):
        return False
    return any(t.dtype == "int8" and t.is_quantized and not t.is_constant for t in tensors)
