"""Pooling and strides: positions that are thrown away are not computed, averages go into kernels."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Op
from edgeloop_converters.passes.graph.editing import SAME, VALID, Editor, activation, is_linear
from edgeloop_converters.passes.graph.series import bias_of, set_weights


def stride_instead_of_pool(editor: Editor) -> int:
    """Layer, 1 x 1 pooling with a stride -> layer with that stride: the others were computed for nothing."""
    count = 0
    for pool in list(editor.main.ops):
        if pool.name not in ("MAX_POOL_2D", "AVERAGE_POOL_2D") or _window(pool) != (1, 1) or not is_linear(pool):
            continue
        if not editor.is_float(pool):
            continue
        layer = editor.only_maker(pool.inputs[0])
        if layer is None or layer.name not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        strides = [layer.option(n, 1) * pool.option(n, 1) for n in ("strideH", "strideW")]
        kernel = editor.shape(layer.inputs[1])[1:3]
        # With SAME, another stride pads elsewhere; a 1 x 1 kernel is never padded.
        if layer.option("padding") == SAME and kernel != (1, 1):
            continue
        if _out(editor, layer, strides, kernel) != editor.shape(pool.outputs[0])[1:3]:
            continue
        layer.options.strideH, layer.options.strideW = strides
        layer.outputs = list(pool.outputs)
        editor.remove(pool)
        count += 1
    return count


def _window(pool: Op) -> tuple[int, int]:
    return pool.option("filterHeight"), pool.option("filterWidth")


def _stride(op: Op) -> tuple[int, int]:
    return op.option("strideH", 1), op.option("strideW", 1)


def _out(editor: Editor, op: Op, strides: list[int], kernel: tuple[int, ...]) -> tuple[int, ...]:
    sizes = editor.shape(op.inputs[0])[1:3]
    if op.option("padding") == SAME:
        return tuple(-(-n // s) for n, s in zip(sizes, strides, strict=True))
    return tuple(-(-(n - k + 1) // s) for n, s, k in zip(sizes, strides, kernel, strict=True))


def merge_pools(editor: Editor) -> int:
    """Average of averages, maximum of maxima over windows side by side -> one pooling."""
    count = 0
    for second in list(editor.main.ops):
        first = editor.only_maker(second.inputs[0]) if second.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D") else None
        if first is None or first.name != second.name or not is_linear(first) or not editor.is_float(second):
            continue
        if any(op.option("padding") != VALID or _window(op) != _stride(op) for op in (first, second)):
            continue
        for pair in (("filterHeight", "strideH"), ("filterWidth", "strideW")):
            size = first.option(pair[0]) * second.option(pair[0])
            for name in pair:
                setattr(second.options, name, size)
        second.inputs[0] = first.inputs[0]
        editor.remove(first)
        count += 1
    return count


def pool_into_kernel(editor: Editor) -> int:
    """Linear convolution, average pooling without overlap -> one convolution with a larger kernel and that stride,
    where that is less work.
    """
    count = 0
    for pool in list(editor.main.ops):
        if pool.name != "AVERAGE_POOL_2D" or pool.option("padding") != VALID or _window(pool) != _stride(pool):
            continue
        layer = editor.only_maker(pool.inputs[0])
        if layer is None or layer.name != "CONV_2D" or not is_linear(layer) or _stride(layer) != (1, 1):
            continue
        weights = editor.floats(layer, 1)
        if weights is None or max(layer.option("dilationHFactor", 1), layer.option("dilationWFactor", 1)) > 1:
            continue
        (p, q), (h, w) = _window(pool), weights.shape[1:3]
        if (h + p - 1) * (w + q - 1) > h * w * p * q:
            continue
        if not _pads_alike(editor, layer, pool, (h, w), (p, q)):
            continue
        larger = np.zeros((len(weights), h + p - 1, w + q - 1, weights.shape[3]), np.float32)
        for y in range(p):
            for x in range(q):
                larger[:, y : y + h, x : x + w] += weights / np.float32(p * q)
        set_weights(editor, layer, larger, bias_of(editor, layer))
        layer.options.strideH, layer.options.strideW = p, q
        layer.options.fusedActivationFunction = activation(pool)
        layer.outputs = list(pool.outputs)
        editor.remove(pool)
        count += 1
    return count


def _pads_alike(editor: Editor, layer: Op, pool: Op, kernel: tuple[int, ...], window: tuple[int, int]) -> bool:
    """Whether the larger kernel starts where the smaller one did."""
    sizes, out = editor.shape(layer.inputs[0])[1:3], editor.shape(pool.outputs[0])[1:3]
    for size, k, p, n in zip(sizes, kernel, window, out, strict=True):
        if layer.option("padding") == VALID:
            if n != -(-(size - (k + p - 1) + 1) // p):
                return False
            continue
        missing = max((n - 1) * p + k + p - 1 - size, 0)
        if n != -(-size // p) or missing // 2 != (k - 1) // 2:
            return False
    return True
