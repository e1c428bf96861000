"""Rounding of weights that makes a layer's output, not its weights, come out right: GPTQ with bias correction.

Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (algorithm 1);
the rounding itself is Optimal Brain Quantization's. Two changes: the Hessian is the covariance of the layer's input in
the quantized model, and the bias then takes the rest of the mean (Nagel et al. 2019, section 4.2, measured instead of
derived). Layers are done in order, so that a later one makes good what the earlier ones left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import quantize
from edgeloop.graph import Graph, Op, Tensor
from edgeloop.graph.parts import cut
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.passes.codes import WeightCodes
from edgeloop_converters.passes.packed import PackedModel, weighted_ops
from edgeloop_converters.passes.patches import LAYERS, LayerRows, as_rows, as_tensor
from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

NAME, BIAS_NAME = "weight rounding", "bias correction"
DAMPING = 0.01
ROWS = 20_000
_BLOCK = 64
_ONE_THREAD_COLUMNS = 1152
_MOST_COLUMNS = 4608
"""Of a layer's rows: the Hessian of a wider one takes too long; such a layer keeps plain rounding."""


Nearest = Callable[[Doubles], Array]
"""Values in units of a code -> the code to take for each, within +-127."""


@dataclass(frozen=True)
class Grid:
    """Where a layer's weights may lie: real = scale * code. scales: [outputs] or [1]."""

    scales: Doubles
    nearest: Nearest


ChooseGrid = Callable[[str, Doubles, Doubles], Grid]
"""(name of the weights, float weights [outputs, columns], variances of their inputs, same shape) -> their grid."""


def nearest_int8(values: Doubles) -> Array:
    """The plain grid."""
    return np.clip(np.rint(values), -127, 127)


def gptq(weights: Doubles, hessian: Doubles, scales: Doubles, nearest: Nearest = nearest_int8) -> npt.NDArray[np.int8]:
    """Codes [outputs, columns] whose product with inputs of that second moment is closest to the weights'.

    hessian: [columns, columns], E[x x^T]. scales: [outputs] or [1]. nearest: rounds to the codes that may be used.
    """
    columns = weights.shape[1]
    order = np.argsort(-np.diag(hessian), kind="stable")  # what matters most is rounded first, while all can answer
    damped = hessian[np.ix_(order, order)] + np.eye(columns) * (DAMPING * max(np.trace(hessian) / columns, 1e-12))
    upper = _upper_factor_of_inverse(damped)
    rest = weights[:, order].astype(np.float64)
    steps = np.broadcast_to(scales.astype(np.float64), (len(weights),))
    codes = np.zeros(weights.shape, np.int8)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = np.empty((len(weights), stop - start))
        for i in range(start, stop):
            code = nearest(rest[:, i] / steps)
            codes[:, order[i]] = code
            error = (rest[:, i] - code * steps) / upper[i, i]
            rest[:, i + 1 : stop] -= error[:, None] * upper[i, i + 1 : stop]
            errors[:, i - start] = error
        rest[:, stop:] -= errors @ upper[start:stop, stop:]
    return codes


def _upper_factor_of_inverse(matrix: Doubles) -> Doubles:
    """U with U^T U = matrix^-1, for a positive definite [n, n]: the inverse of the lower factor, both read backwards.

    Raises LinAlgError where it is not.
    """
    from scipy.linalg import lapack

    lower, failed = lapack.dpotrf(matrix[::-1, ::-1], lower=1, clean=1)
    inverse, singular = lapack.dtrtri(lower, lower=1)
    if failed or singular:
        raise np.linalg.LinAlgError("the layer's second moments are not positive definite")
    return np.asarray(inverse[::-1, ::-1])


@dataclass(frozen=True)
class _Layer:
    """One op of the quantized model beside the float op it came from."""

    op: Op
    weight: Tensor
    source: str
    floats: Doubles
    bias: Tensor | None


def round_weights(
    model: PackedModel,
    samples: Sequence[Sequence[Array]],
    *,
    rounding: bool = True,
    grid: ChooseGrid | None = None,
    rows: int = ROWS,
    seed: int = 0,
    deadline_s: float = float("inf"),
    progress: Progress | None = None,
) -> PassReport:
    """GPTQ and bias correction for every CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED, in place.

    samples: float model inputs, one array per input. rounding: False corrects biases only. grid: chooses
    scales and codes; without one the packer's scales and all codes. rows: how many input rows of a layer are looked at.
    deadline_s: on `time.monotonic`'s clock; layers after it stay as they are.
    """
    from threadpoolctl import ThreadpoolController

    started = time.monotonic()
    layers = _layers(model)
    blas = ThreadpoolController()
    name = NAME if rounding else BIAS_NAME
    done = 0
    with (progress or SilentProgress()).step(name, total=len(layers)) as advance:
        for layer in layers:
            if time.monotonic() > deadline_s:
                break
            # Threads of the linear algebra wait for each other by spinning: for small matrices, and on a busy host, one
            # alone is several times as fast.
            small = layer.floats.shape[-1] <= _ONE_THREAD_COLUMNS
            with blas.limit(limits=1 if small else None):
                _do_layer(model, layer, samples, rounding, grid, rows, seed)
            done += 1
            advance(1)
    left = f", {len(layers) - done} left for want of time" if done < len(layers) else ""
    what = "weights rounded with feedback, biases corrected" if rounding else "biases corrected"
    return PassReport(name, f"{what} in {done} layers{left}", time.monotonic() - started)


def _layers(model: PackedModel) -> list[_Layer]:
    main = model.float_graph.main
    twins = {main.tensors[op.outputs[0]].name: op for op in main.ops if op.outputs}
    names = {t.name for t in main.tensors}
    uses = Counter(i for op in model.graph.main.ops for i in op.inputs)
    found = []
    for op in weighted_ops(model.graph):
        twin = twins.get(model.graph.main.tensors[op.outputs[0]].name)
        if op.name not in LAYERS or twin is None or twin.name != op.name:
            continue
        weight, origin = model.graph.main.tensors[op.inputs[1]], model.float_graph.constant(twin, 1)
        source = model.graph.main.tensors[op.inputs[0]].name
        if origin is None or origin.data is None or origin.shape != weight.shape or origin.name != weight.name:
            continue
        if source not in names or uses[op.inputs[1]] > 1 or not _is_plain(op, model.graph):
            continue
        floats = as_rows(twin, origin.data).astype(np.float64)
        found.append(_Layer(twin, weight, source, floats, _own_bias(model, op, twin)))
    return found


def _own_bias(model: PackedModel, op: Op, twin: Op) -> Tensor | None:
    """The float bias, where it is this op's alone."""
    bias = model.float_graph.constant(twin, 2)
    if bias is None or bias.name != model.graph.main.tensors[op.inputs[2]].name:
        return None
    readers = sum(twin.inputs[2] in other.inputs for other in model.float_graph.main.ops)
    return bias if readers == 1 else None


def _is_plain(op: Op, graph: Graph) -> bool:
    """One sample at a time, no filter groups, one filter per channel: what the rows of `patches` are made for."""
    if op.name == "FULLY_CONNECTED":
        return True
    source, weight = (graph.main.tensors[i].shape for i in op.inputs[:2])
    return source[0] == 1 and source[-1] == weight[-1] and op.option("depthMultiplier", 1) == 1


def _do_layer(
    model: PackedModel,
    layer: _Layer,
    samples: Sequence[Sequence[Array]],
    rounding: bool,
    choose: ChooseGrid | None,
    rows: int,
    seed: int,
) -> None:
    if layer.weight.quantization is None or layer.weight.data is None:
        return
    if layer.floats.shape[-1] > _MOST_COLUMNS:
        if choose is not None:
            grid = choose(layer.weight.name, layer.floats, np.ones_like(layer.floats))
            _put(model, layer, grid, grid.nearest(layer.floats / _each(grid.scales, layer.floats)))
        return
    quantized, floats = _rows_of(model, layer, samples, rows, seed)
    grid = Grid(layer.weight.quantization.scale.astype(np.float64), nearest_int8)
    codes = as_rows(layer.op, layer.weight.data)
    mean, wanted = quantized.mean(axis=0, dtype=np.float64), floats.mean(axis=0, dtype=np.float64)
    if rounding:
        # The bias takes up the mean's error, so only what varies counts.
        centred = (quantized - mean.astype(np.float32)).astype(np.float32)
        if choose is not None:
            variances = np.broadcast_to(np.square(centred).mean(axis=0).T.astype(np.float64), layer.floats.shape)
            grid = choose(layer.weight.name, layer.floats, variances)
        codes = _depthwise(layer.floats, centred, grid) if centred.ndim == 3 else gptq(
            layer.floats, (centred.T @ centred).astype(np.float64) / len(centred), grid.scales, grid.nearest
        )  # fmt: skip
        _put(model, layer, grid, codes)
    if layer.bias is not None and layer.bias.data is not None:
        real = codes * _each(grid.scales, codes)
        change: Any = _apply(layer.floats, wanted) - _apply(real, mean)
        model.set_bias(layer.bias.name, np.asarray(layer.bias.data + change, np.float32))


def _put(model: PackedModel, layer: _Layer, grid: Grid, codes: Array) -> None:
    assert layer.weight.quantization is not None
    shaped = as_tensor(layer.op, codes, layer.weight.shape).astype(np.int8)
    scales = grid.scales.astype(np.float32)
    model.set_weight(layer.weight.name, WeightCodes(shaped, scales, layer.weight.quantization.dimension))


def _each(scales: Doubles, rows: Array) -> Doubles:
    """[outputs, 1], from one per output or one for all."""
    return np.broadcast_to(scales, (len(rows),))[:, None]


def _apply(weights: Doubles, mean: Doubles) -> Doubles:
    """Mean output of a layer. mean: [columns], or [columns, channels] of a depthwise layer."""
    return np.asarray((weights * mean.T).sum(axis=1) if mean.ndim == 2 else weights @ mean)


def _depthwise(weights: Doubles, centred: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.int8]:
    steps = np.broadcast_to(grid.scales, (len(weights),))
    codes = np.empty(weights.shape, np.int8)
    hessians = np.einsum("rkc,rlc->ckl", centred, centred, optimize=True).astype(np.float64) / len(centred)
    for channel, hessian in enumerate(hessians):
        one = slice(channel, channel + 1)
        codes[channel] = gptq(weights[one], hessian, steps[one], grid.nearest)[0]
    return codes


def _rows_of(
    model: PackedModel, layer: _Layer, samples: Sequence[Sequence[Array]], rows: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The layer's input rows in the quantized and in the float model, at the same places."""
    places = LayerRows(model.float_graph, layer.op, len(samples), rows, seed)
    ours, theirs = [], []
    with (
        open_session(cut(model.graph, [layer.source])) as first,
        open_session(cut(model.float_graph, [layer.source])) as second,
    ):
        affine = first.outputs[0].affine
        for sample in samples:
            where = places.positions()
            for i, array in enumerate(sample):
                info = first.inputs[i]
                first.set_input(i, quantize(array, info.affine, info.dtype) if info.affine.is_quantized else array)
                second.set_input(i, array)
            first.invoke()
            second.invoke()
            real = (first.output(0).astype(np.float32) - np.float32(affine.zero_point)) * np.float32(affine.scale)
            ours.append(places.rows(real, where))
            theirs.append(places.rows(second.output(0), where))
    return np.concatenate(ours), np.concatenate(theirs)
