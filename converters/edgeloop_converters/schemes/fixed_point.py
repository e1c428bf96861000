"""Fixed point: every scale is a power of two, so that rescaling between layers is a shift.

Q(x) = round(x * 2^n), real = code * 2^-n. Tensors with negative values are signed (zero point 0), those without hold
all 256 codes (zero point -128: an unsigned Q number stored as int8). Weights: one power of two per channel, the one
with the smallest squared error. Biases then have power-of-two scales too, and every multiplier of the int8 kernels,
input scale * weight scale / output scale, is a power of two.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Quantization
from edgeloop_converters.calibration import Ranges
from edgeloop_converters.passes.codes import WEIGHTED_OPS, WeightCodes, operands, write_codes
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.verify import Made

_RESCALING = frozenset(("ADD", "SUB", "MUL"))
"""Ops that take each operand by its own scale; others hand one scale on, and tables of theirs keep the packer's."""

_OVERSHOOT = 0.2
"""A range may be clipped by this share of it before its step is doubled: on ResNet8 0.2 to 0.4 keep 1.5 % more labels
than none.
"""


def fixed_point(job: Job) -> Made:
    """int8 with power-of-two scales. Raises UsageError naming a tensor whose scale came out as something else."""
    assert job.ranges is not None
    ranges = power_of_two_ranges(job.ranges)
    packed = quantize_int8(job.model, ranges, fully_connected_per_tensor=job.per_tensor_dense, progress=job.progress)
    float_graph = Graph.read(job.model)
    weights = power_of_two_weights(Graph.read(packed.tflite), float_graph)
    graph = Graph.read(write_codes(packed.tflite, job.model, weights, {}))
    power_of_two_constants(graph, float_graph)
    check_powers_of_two(graph)
    return Made(graph.write(), "fixed-point", packed.float_ops, packed.notes)


def power_of_two_ranges(ranges: Ranges) -> Ranges:
    """The ranges widened, or clipped by at most a fifth, to what a power-of-two scale spans."""
    spans = {name: _span(low, high) for name, (low, high) in ranges.tensors.items()}
    return Ranges(spans, ranges.samples, ranges.method)


def _span(low: float, high: float) -> tuple[float, float]:
    if low >= 0:
        step = power_of_two_above(high * (1 - _OVERSHOOT) / 255)
        return 0.0, 255 * step
    step = power_of_two_above(max(-low / 128, high / 127) * (1 - _OVERSHOOT))
    return -128 * step, 127 * step


def power_of_two_above(value: float) -> float:
    """The smallest 2^n that is not below `value`; 2^-30 for nothing at all."""
    return 2.0 ** math.ceil(math.log2(max(value, 2.0**-30)))


def power_of_two_weights(packed: Graph, float_graph: Graph) -> dict[str, WeightCodes]:
    """For every int8 weight, with one scale per channel where the packer had one."""
    floats = {t.name: t.data for t in float_graph.main.tensors if t.is_constant}
    found = {}
    for op in packed.main.ops:
        tensor = packed.constant(op, operands(op)[0]) if op.name in WEIGHTED_OPS else None
        if tensor is None or tensor.dtype != "int8":
            continue
        values = floats.get(tensor.name)
        if values is None or tensor.quantization is None or values.shape != tensor.shape:
            raise UsageError(f"weights '{tensor.name}' are not in the float model under that name")
        axis = tensor.quantization.dimension
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1) if tensor.is_per_channel else values[None]
        scales = _best_scales(rows.reshape(len(rows), -1).astype(np.float64))
        shape = [1] * values.ndim
        shape[axis] = len(scales)
        steps: npt.NDArray[np.float64] = scales.reshape(shape)
        codes = np.clip(np.rint(values.astype(np.float64) / steps), -127, 127).astype(np.int8)
        found[tensor.name] = WeightCodes(codes, scales.astype(np.float32), axis)
    return found


def power_of_two_constants(graph: Graph, float_graph: Graph) -> None:
    """Constants that are added or multiplied get a scale of their own that is one, signed: rescaling is their op's."""
    floats = {t.name: t.data for t in float_graph.main.tensors if t.data is not None}
    for index, tensor in enumerate(graph.main.tensors):
        readers = {op.name for op in graph.main.ops if index in op.inputs}
        values = floats.get(tensor.name)
        if tensor.data is None or tensor.dtype != "int8" or not readers or not readers <= _RESCALING:
            continue
        if values is None or values.shape != tensor.data.shape:
            values = dequantize(tensor.data, tensor.affine)
        numbers = np.asarray(values, np.float64)
        step = power_of_two_above(float(np.abs(numbers).max(initial=0.0)) / 127)
        tensor.data = np.clip(np.rint(numbers / step), -127, 127).astype(np.int8)
        tensor.quantization = Quantization.per_tensor(step, 0)


def _best_scales(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """rows: [channels, values]. The power of two without clipping, or half of it where that errs less."""
    largest = np.abs(rows).max(axis=1)
    wide = np.array([power_of_two_above(float(m) / 127) for m in largest])
    errors = []
    for scales in (wide, wide / 2):
        steps = scales[:, None]
        errors.append(np.square(np.clip(np.rint(rows / steps), -127, 127) * steps - rows).sum(axis=1))
    return np.where(errors[1] < errors[0], wide / 2, wide)


def check_powers_of_two(graph: Graph) -> None:
    """Raises UsageError naming the first tensor whose scale is no power of two."""
    for tensor in graph.main.tensors:
        if tensor.quantization is None or not tensor.is_quantized:
            continue
        mantissas = np.frexp(tensor.quantization.scale)[0]
        if not (mantissas == 0.5).all():
            readers = (op.name for op in graph.main.ops if any(t is tensor for t in graph.main.input_tensors(op)))
            raise UsageError(
                f"--scheme fixed-point: tensor '{tensor.name}', read by {next(readers, 'no op')}, has a scale that is "
                "no power of two",
                hint="ops that only move numbers keep the scale of their table; --scheme int8 takes it",
            )
