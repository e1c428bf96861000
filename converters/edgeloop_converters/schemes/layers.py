"""Layer after layer: put each one's weights on its codebook, let the bias take what is left of the mean.

The inputs of a layer come from the model as quantized so far, those of its bias correction from the float model too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize, quantize
from edgeloop.errors import DataError
from edgeloop.graph import Graph, Op
from edgeloop.progress import Progress
from edgeloop.runtime import open_session
from edgeloop_converters.passes.codes import WeightCodes, float_biases, operands, put_codes
from edgeloop_converters.passes.packed import cut, weighted_ops
from edgeloop_converters.passes.patches import LAYERS, LayerRows, as_rows, as_tensor
from edgeloop_converters.schemes.codebooks import Codebook, Doubles, fitted_scales, rounded
from edgeloop_converters.schemes.job import Samples

Floats = npt.NDArray[np.float32]

SAMPLES = 128
_ROWS = 8192
_MAX_COLUMNS = 4608
"""Above, the matrix of second moments is too large: such a layer is rounded to the nearest."""


@dataclass
class Layer:
    """One op with int8 weights. rows: float weights [outputs, columns]. share: of all the model's weights."""

    op: Op
    name: str
    rows: Doubles
    shape: tuple[int, ...]
    axis: int
    per_channel: bool
    share: float
    source: str
    """Name of the op's input in the float model; before the quantized op may stand a QUANTIZE."""
    bias: str | None
    """Name of the float bias; None where there is none of its own."""


Choose = Callable[[Layer, Doubles], Codebook]
"""(layer, importance of its columns) -> the codebook for it."""


@dataclass
class Fitted:
    """weights and biases by the float model's tensor names."""

    weights: dict[str, WeightCodes] = field(default_factory=dict)
    biases: dict[str, Floats] = field(default_factory=dict)


def layers_of(graph: Graph, float_graph: Graph) -> list[Layer]:
    """In the order in which they run. Those without a twin in the float model are left out."""
    floats = {t.name: t.data for t in float_graph.main.tensors if t.is_constant}
    main = float_graph.main
    twins = {main.tensors[op.outputs[0]].name: op for op in main.ops if op.outputs}
    biases = float_biases(graph, float_graph)
    uses: dict[int, int] = {}
    for op in graph.main.ops:
        for index in op.inputs:
            uses[index] = uses.get(index, 0) + 1
    found = []
    for op in weighted_ops(graph):
        weight_position, bias_position = operands(op)
        index = op.inputs[weight_position]
        tensor = graph.main.tensors[index]
        values = floats.get(tensor.name)
        if op.name not in LAYERS or values is None or tensor.quantization is None or uses[index] > 1:
            continue
        twin = twins.get(graph.main.tensors[op.outputs[0]].name)
        if twin is None or twin.name != op.name or not _is_plain(op, graph):
            continue
        bias_index = op.inputs[bias_position] if bias_position < len(op.inputs) else -1
        source = biases.get(bias_index)
        bias = source.name if source is not None and uses.get(bias_index) == 1 else None
        rows = as_rows(op, values).astype(np.float64)
        found.append(
            Layer(op, tensor.name, rows, tensor.shape, tensor.quantization.dimension, tensor.is_per_channel,
                  float(values.size), main.tensors[twin.inputs[0]].name, bias)
        )  # fmt: skip
    total = sum(layer.share for layer in found)
    for layer in found:
        layer.share /= total
    return found


def _is_plain(op: Op, graph: Graph) -> bool:
    """One sample at a time, no filter groups, one filter per channel: what `LayerRows` is made for."""
    source, weight = (graph.main.tensors[i].shape for i in op.inputs[:2])
    return op.name == "FULLY_CONNECTED" or (
        source[0] == 1 and source[-1] == weight[-1] and op.option("depthMultiplier", 1) == 1
    )


def fit(
    model: bytes, float_model: bytes, samples: Samples, total: int, choose: Choose, progress: Progress, label: str
) -> Fitted:
    """Codes, scales and biases for every layer of the int8 `model`.

    samples: `total` float inputs of the model, of which at most SAMPLES are used. Raises DataError when there are none.
    """
    graph, float_graph = Graph.read(model), Graph.read(float_model)
    inputs = _some(samples, total)
    if not inputs:
        raise DataError("no samples to round the weights with")
    result = Fitted()
    layers = layers_of(graph, float_graph)
    constants = {t.name: t.data for t in float_graph.main.tensors if t.is_constant}
    with progress.step(label, total=len(layers)) as advance:
        float_means = _float_means(float_model, graph, layers, inputs)
        for layer, float_mean in zip(layers, float_means, strict=True):
            seen = _see(graph, layer, inputs)
            codes, real = _round(layer, seen, choose)
            biases: dict[str, Floats] = {}
            if layer.bias is not None and (before := constants[layer.bias]) is not None:
                missing = (layer.rows * float_mean).sum(axis=1) - (real * seen.mean).sum(axis=1)
                biases[layer.bias] = (before + missing).astype(np.float32)
            put_codes(graph, float_graph, {layer.name: codes}, biases)
            result.weights[layer.name] = codes
            result.biases.update(biases)
            advance(1)
    return result


def _some(samples: Samples, total: int) -> list[Floats]:
    step = max(1, total // SAMPLES)
    return [np.array(x) for i, x in enumerate(samples()) if i % step == 0][:SAMPLES]


@dataclass
class _Seen:
    """Of a layer's input columns, [groups, columns]: means, variances, and covariances [groups, columns, columns],
    None where they are too large. groups: 1, or one per channel of a depthwise layer, whose columns are its kernel.
    """

    mean: Doubles
    variance: Doubles
    moments: Doubles | None


def _see(graph: Graph, layer: Layer, inputs: Sequence[Floats]) -> _Seen:
    """Rows of the layer's input in the quantized model, at random output positions of every sample."""
    collect = LayerRows(graph, layer.op, len(inputs), _ROWS, seed=0)
    index = layer.op.inputs[0]
    tensor = graph.main.tensors[index]
    rows = []
    if index in graph.main.inputs:
        for x in inputs:
            codes = quantize(x, tensor.affine, tensor.dtype)
            rows.append(collect.rows(dequantize(codes, tensor.affine), collect.positions()))
    else:
        with open_session(cut(graph, [tensor.name])) as session:
            info = session.inputs[0]
            for x in inputs:
                session.set_input(0, quantize(x, info.affine, info.dtype))
                session.invoke()
                rows.append(collect.rows(dequantize(session.output(0), tensor.affine), collect.positions()))
    columns = _by_group(np.concatenate(rows).astype(np.float64))
    mean = columns.mean(axis=1)
    columns -= mean[:, None, :]
    moments = None
    if columns.shape[2] <= _MAX_COLUMNS:
        moments = np.matmul(columns.transpose(0, 2, 1), columns) / columns.shape[1]
    return _Seen(mean, np.square(columns).mean(axis=1), moments)


def _by_group(rows: Doubles) -> Doubles:
    """[rows, columns] or depthwise [rows, columns, C] to [groups, rows, columns]."""
    return rows[None] if rows.ndim == 2 else np.ascontiguousarray(np.moveaxis(rows, 2, 0))


def _float_means(model: bytes, graph: Graph, layers: Sequence[Layer], inputs: Sequence[Floats]) -> list[Doubles]:
    """Means of every layer's input columns in the float model, at the positions that `_see` takes."""
    collectors = [LayerRows(graph, layer.op, len(inputs), _ROWS, seed=0) for layer in layers]
    sums: list[Doubles] = [np.zeros(())] * len(layers)
    counts = [0] * len(layers)
    with open_session(model, delegate="cpu", keep_tensors=True) as session:
        by_name = {t.name: t.index for t in session.tensors()}
        sources = [by_name[layer.source] for layer in layers]
        for x in inputs:
            session.set_input(0, x)
            session.invoke()
            for i, (collect, source) in enumerate(zip(collectors, sources, strict=True)):
                rows = _by_group(collect.rows(session.tensor(source), collect.positions()))
                sums[i] = sums[i] + rows.sum(axis=1, dtype=np.float64)
                counts[i] += rows.shape[1]
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _round(layer: Layer, seen: _Seen, choose: Choose) -> tuple[WeightCodes, Doubles]:
    """The layer's codes, and the real weights they stand for as [outputs, columns]."""
    groups, rows = len(seen.mean), layer.rows
    importance = np.broadcast_to(seen.variance, rows.shape)
    codebook = choose(layer, importance)
    scales = fitted_scales(rows, codebook, importance, one=not layer.per_channel)
    each = np.broadcast_to(scales, (len(rows),))
    if groups == 1 or seen.moments is None:
        codes = rounded(rows, codebook, each, None if seen.moments is None else seen.moments[0])
    else:
        one_by_one = (rounded(rows[g : g + 1], codebook, each[g : g + 1], seen.moments[g]) for g in range(groups))
        codes = np.concatenate(list(one_by_one))
    tensor = np.ascontiguousarray(as_tensor(layer.op, codes, layer.shape))
    return WeightCodes(tensor, scales.astype(np.float32), layer.axis), codes * each[:, None]
