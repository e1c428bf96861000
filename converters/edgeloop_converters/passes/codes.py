"""Weights given as codes and scales, written over what the packer chose.

The packer derives a scale from a channel's largest weight, so weights that a rounding pass has put on a grid come out
shifted wherever a channel's largest code is not 127. Here codes and scales go into the file as they are, and the int32
biases follow: their scale is that of the input times that of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Quantization, Tensor
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.report import PassReport

Floats = npt.NDArray[np.float32]

WEIGHTED_OPS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
_WEIGHTS_AND_BIAS = {"TRANSPOSE_CONV": (1, 3)}
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class WeightCodes:
    """real weight = scale * code.

    codes: int8, the weight tensor's shape as it is in the file. scales: float32, [channels] along `axis`, or [1].
    """

    codes: npt.NDArray[np.int8]
    scales: Floats
    axis: int = 0

    def real(self) -> Floats:
        """The weights that the kernels compute with, float32 of the codes' shape."""
        return np.asarray(self.codes * _along(self.scales, self.axis, self.codes.ndim), np.float32)


@dataclass(frozen=True)
class Refinement:
    """What the passes found, as constants to put into a quantized model; all by the float model's tensor names.

    biases: float32, in place of the model's own.
    """

    ranges: Ranges
    weights: Mapping[str, WeightCodes] = field(default_factory=dict)
    biases: Mapping[str, Floats] = field(default_factory=dict)
    reports: tuple[PassReport, ...] = ()


def write_codes(
    quantized_model: bytes,
    float_model: bytes,
    weights: Mapping[str, WeightCodes],
    biases: Mapping[str, Floats],
) -> bytes:
    """Put weights and biases over those of `quantized_model`, a quantized `float_model` with the same ops.

    The bias of every op whose weights change is requantized from `biases`, or else from the float model. Raises
    UsageError where a name is no int8 weight or no int32 bias of the quantized model, or a shape does not fit.
    """
    graph = Graph.read(quantized_model)
    put_codes(graph, Graph.read(float_model), weights, biases)
    return graph.write()


def put_codes(
    graph: Graph, float_graph: Graph, weights: Mapping[str, WeightCodes], biases: Mapping[str, Floats]
) -> None:
    """`write_codes` in place."""
    for name, codes in weights.items():
        _put_weight(_named(graph, name, "weights"), codes)
    for name in biases:
        _named(graph, name, "bias")
    sources = float_biases(graph, float_graph)
    written: dict[int, tuple[npt.NDArray[np.int32], Floats]] = {}
    for op in graph.main.ops:
        if op.name not in WEIGHTED_OPS:
            continue
        weight_position, bias_position = operands(op)
        bias_index = op.inputs[bias_position] if bias_position < len(op.inputs) else -1
        if bias_index < 0:
            continue
        weight, bias = graph.main.tensors[op.inputs[weight_position]], graph.main.tensors[bias_index]
        source = sources.get(bias_index)
        if source is None or (weight.name not in weights and source.name not in biases and bias.name not in biases):
            continue
        value = biases.get(source.name, biases.get(bias.name, source.data))
        codes_and_scales = _bias_codes(graph, op, weight, bias, np.asarray(value, np.float32))
        known = written.setdefault(bias_index, codes_and_scales)
        if not np.array_equal(known[0], codes_and_scales[0]):
            raise UsageError(f"bias '{bias.name}' is shared by ops of different scales: it cannot be written")
        bias.data, scales = codes_and_scales
        bias.quantization = Quantization(scales, np.zeros(scales.size, np.int64), 0)


def operands(op: Op) -> tuple[int, int]:
    """(position of the weights, position of the bias) among the inputs of one of WEIGHTED_OPS."""
    return _WEIGHTS_AND_BIAS.get(op.name, (1, 2))


def float_biases(graph: Graph, float_graph: Graph) -> dict[int, Tensor]:
    """Index of an int32 bias in `graph` -> the float tensor that it came from; found by name, else through the op."""
    by_name = {t.name: t for t in float_graph.main.tensors if t.is_constant}
    by_output = {float_graph.main.tensors[op.outputs[0]].name: op for op in float_graph.main.ops if op.outputs}
    found: dict[int, Tensor] = {}
    for op in graph.main.ops:
        if op.name not in WEIGHTED_OPS:
            continue
        position = operands(op)[1]
        if position >= len(op.inputs) or op.inputs[position] < 0:
            continue
        index = op.inputs[position]
        source = by_name.get(graph.main.tensors[index].name)
        twin = by_output.get(graph.main.tensors[op.outputs[0]].name)
        if source is None and twin is not None and twin.name == op.name:
            source = float_graph.constant(twin, position)
        if source is not None and source.dtype == "float32":
            found[index] = source
    return found


def _put_weight(tensor: Tensor, codes: WeightCodes) -> None:
    if tensor.dtype != "int8" or tensor.data is None:
        raise UsageError(f"weights '{tensor.name}' are {tensor.dtype} in the quantized model, not int8")
    channels = tensor.shape[codes.axis] if codes.axis < len(tensor.shape) else -1
    if codes.codes.shape != tensor.shape or codes.codes.dtype != np.int8 or codes.scales.size not in (1, channels):
        raise UsageError(
            f"weights '{tensor.name}': codes {codes.codes.dtype} {codes.codes.shape} with {codes.scales.size} scales "
            f"do not fit the shape {tensor.shape}"
        )
    if not (np.isfinite(codes.scales).all() and (codes.scales > 0).all()):
        raise UsageError(f"weights '{tensor.name}': scales must be positive numbers")
    scales = codes.scales.astype(np.float32).reshape(-1)
    tensor.data = np.ascontiguousarray(codes.codes)
    tensor.quantization = Quantization(scales, np.zeros(scales.size, np.int64), codes.axis)


def _bias_codes(
    graph: Graph, op: Op, weight: Tensor, bias: Tensor, value: Floats
) -> tuple[npt.NDArray[np.int32], Floats]:
    source = graph.main.tensors[op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0]]
    if bias.dtype != "int32" or value.shape != bias.shape:
        raise UsageError(f"bias '{bias.name}' is {bias.dtype} {bias.shape}, given were float values {value.shape}")
    if weight.quantization is None or not source.affine.is_quantized:
        raise UsageError(f"bias '{bias.name}': its op is not quantized")
    scales = (np.float64(source.affine.scale) * weight.quantization.scale.astype(np.float64)).astype(np.float32)
    codes = np.clip(np.rint(value / scales.astype(np.float64)), _INT32.min, _INT32.max)
    return codes.astype(np.int32), scales


def _named(graph: Graph, name: str, what: str) -> Tensor:
    try:
        return graph.tensor_by_name(name)
    except KeyError:
        raise UsageError(f"the quantized model has no {what} '{name[:120]}'") from None


def _along(scales: Floats, axis: int, dimensions: int) -> npt.NDArray[Any]:
    shape = [1] * dimensions
    shape[axis] = scales.size
    return scales.reshape(shape)
