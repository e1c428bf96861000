"""What a layer sees: rows of its input, as the matrix product sees them, at random output positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_SAME = 0


@dataclass(frozen=True)
class Window:
    """How a convolution reads its input: kernel, stride, dilation and zeros put around, each (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    output: tuple[int, int]

    def rows(self, image: Array, positions: npt.NDArray[np.int64]) -> Array:
        """image: [H, W, C] in real units. Returns [positions, kernel height, kernel width, C]."""
        (top, bottom), (left, right) = zip(self.before, self.after, strict=True)
        height, width, channels = image.shape
        padded = np.zeros((top + height + bottom, left + width + right, channels), image.dtype)  # np.pad is slow
        padded[top : top + height, left : left + width] = image
        y, x = np.divmod(positions, self.output[1])
        down = (y * self.stride[0])[:, None, None] + (np.arange(self.kernel[0]) * self.dilation[0])[None, :, None]
        across = (x * self.stride[1])[:, None, None] + (np.arange(self.kernel[1]) * self.dilation[1])[None, None, :]
        return np.asarray(padded[down, across])


def window_of(graph: Graph, op: Op) -> Window:
    """Of a CONV_2D or DEPTHWISE_CONV_2D; padding as TensorFlow computes SAME and VALID."""
    height, width = graph.main.tensors[op.inputs[0]].shape[1:3]
    kernel_shape, out = graph.main.tensors[op.inputs[1]].shape, graph.main.tensors[op.outputs[0]].shape
    kernel = (kernel_shape[1], kernel_shape[2])
    stride = (op.option("strideH", 1), op.option("strideW", 1))
    dilation = (op.option("dilationHFactor", 1), op.option("dilationWFactor", 1))
    before, after = [0, 0], [0, 0]
    for i, size in enumerate((height, width)):
        reach = (out[1 + i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1
        missing = max(reach - size, 0) if op.option("padding") == _SAME else 0
        before[i], after[i] = missing // 2, missing - missing // 2
    return Window(
        kernel, stride, dilation, (before[0], before[1]), (after[0], after[1]), (int(out[1]), int(out[2]))
    )  # fmt: skip


class LayerRows:
    """Collects rows of one layer over the samples: the same positions from the float and from the quantized model.

    Rows are [rows, columns] for CONV_2D and FULLY_CONNECTED, [rows, kernel height * kernel width, C] for depthwise.
    """

    def __init__(self, graph: Graph, op: Op, samples: int, wanted: int, seed: int) -> None:
        self._depthwise = op.name == "DEPTHWISE_CONV_2D"
        self._window = None if op.name == "FULLY_CONNECTED" else window_of(graph, op)
        self._columns = int(graph.main.tensors[op.inputs[1]].shape[-1])
        self._each = max(1, -(-wanted // max(1, samples)))
        self._random = np.random.default_rng(seed)

    def positions(self) -> npt.NDArray[np.int64]:
        """Random output positions for the next sample."""
        if self._window is None:
            return np.zeros(0, np.int64)
        every = self._window.output[0] * self._window.output[1]
        if every <= self._each:
            return np.arange(every)
        return self._random.choice(every, self._each, replace=False)

    def rows(self, values: Array, positions: npt.NDArray[np.int64]) -> Array:
        """values: the layer's input for one sample, with the batch axis of 1."""
        if self._window is None:
            return values.reshape(-1, self._columns)
        found = self._window.rows(values[0], positions)
        if self._depthwise:
            return found.reshape(len(found), -1, found.shape[-1])
        return found.reshape(len(found), -1)


def as_rows(op: Op, weights: Array) -> Array:
    """The layer's weights as [outputs, columns]; depthwise [C, kernel height * kernel width]."""
    if op.name == "DEPTHWISE_CONV_2D":
        return np.asarray(weights.reshape(-1, weights.shape[-1]).T)
    return np.asarray(weights.reshape(weights.shape[0], -1))


def as_tensor(op: Op, rows: Array, shape: Sequence[int]) -> Array:
    """The inverse of `as_rows`."""
    if op.name == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(rows.T).reshape(tuple(shape))
    return np.asarray(rows.reshape(tuple(shape)))
