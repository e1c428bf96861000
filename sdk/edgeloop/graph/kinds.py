"""In which numbers a model computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeloop.graph.dtypes import FLOAT_TYPES
from edgeloop.graph.values import Op, Subgraph, Tensor

EDGETPU_OP = "edgetpu-custom-op"
_BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
"""Ops that only change the number format."""


def numeric_kind(subgraphs: Iterable[Subgraph]) -> str:
    """One word for the whole model:

    - "float": activations and weights are float32;
    - "float16": float activations, weights stored as float16 or bfloat16;
    - "hybrid": float activations on integer weights (dynamic-range or weight-only quantization): not a float model to
      start from;
    - "int8", "uint8", "int16": quantized activations of that type (16-bit activations have 8-bit weights), whatever the
      type of the model's own inputs and outputs;
    - "mixed": some ops compute quantized and some in float;
    - "compiled": holds a program for an Edge TPU;
    - "other": nothing of this (indices, strings, custom types only).
    """
    activations: set[str] = set()
    weights: set[str] = set()
    for subgraph in subgraphs:
        for op in subgraph.ops:
            if op.name == EDGETPU_OP:
                return "compiled"
            inputs = [tensor for tensor in subgraph.input_tensors(op) if tensor is not None]
            weights.update(_weight_kinds(inputs))
            if op.name not in _BORDERS:
                activations.update(_activation_kinds(op, subgraph, inputs))
    return _verdict(activations, weights)


def _verdict(activations: set[str], weights: set[str]) -> str:
    if "float" in activations and len(activations) > 1:
        return "mixed"
    if activations - {"float"}:
        integers = sorted(activations)
        return integers[0] if len(integers) == 1 else "mixed"
    if "integer" in weights:
        return "hybrid"
    if "half" in weights:
        return "float16"
    return "float" if activations or "float" in weights else "other"


def _weight_kinds(inputs: Iterable[Tensor]) -> Iterator[str]:
    for tensor in inputs:
        if not tensor.is_constant:
            continue
        if tensor.dtype in ("float16", "bfloat16"):
            yield "half"
        elif tensor.dtype in FLOAT_TYPES:
            yield "float"
        elif tensor.is_quantized and tensor.dtype in ("int8", "uint8", "int4", "int2", "uint4"):
            yield "integer"


def _activation_kinds(op: Op, subgraph: Subgraph, inputs: list[Tensor]) -> Iterator[str]:
    for tensor in [*inputs, *subgraph.output_tensors(op)]:
        if tensor.is_constant or tensor.is_variable:
            continue
        if tensor.dtype in FLOAT_TYPES:
            yield "float"
        elif tensor.is_quantized and tensor.dtype in ("int8", "uint8", "int16"):
            yield tensor.dtype
