"""Small real .tflite models (1 to 10 kB), built through Graph without TensorFlow. Same seed, same bytes.

    from support.tiny_models import tiny_cnn
    Path("m.tflite").write_bytes(tiny_cnn())

Inputs are float32 in 0..1, outputs a softmax over `classes`, unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.graph import Graph, Op, Subgraph, Tensor, make_options

SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3

Floats = npt.NDArray[np.float32]


class TinyBuilder:
    """Appends one op after another; each method returns the index of its output tensor."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph([Subgraph("main", [], [], [], [])], description="edgeloop tiny model")
        self.sub = self.graph.main

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        return self.sub.add_tensor(Tensor(name, tuple(shape), dtype))

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        index = self.tensor(name, shape, dtype)
        self.sub.inputs.append(index)
        return index

    def constant(self, name: str, data: npt.ArrayLike) -> int:
        array = np.asarray(data)
        return self.sub.add_tensor(Tensor(name, array.shape, str(array.dtype), data=array))

    def weights(self, name: str, shape: Sequence[int]) -> int:
        """He-initialised float32; the fan-in is everything but the first axis."""
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self.random.standard_normal(shape) * np.sqrt(2.0 / fan_in)
        return self.constant(name, values.astype(np.float32))

    def op(self, name: str, inputs: Sequence[int], shape: Sequence[int], options: object = None) -> int:
        output = self.tensor(f"{name.lower()}_{len(self.sub.ops)}", shape)
        self.sub.ops.append(Op(name, list(inputs), [output], options))
        return output

    def shape(self, index: int) -> tuple[int, ...]:
        return self.sub.tensors[index].shape

    def conv(self, x: int, filters: int, kernel: int = 3, stride: int = 1, activation: int = RELU) -> int:
        n, h, w, c = self.shape(x)
        number = len(self.sub.ops)
        weights = self.weights(f"conv_{number}/weights", (filters, kernel, kernel, c))
        bias = self.constant(f"conv_{number}/bias", self.random.normal(0, 0.1, filters).astype(np.float32))
        options = make_options(
            "Conv2DOptions", padding=SAME, strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1,
            fusedActivationFunction=activation,
        )  # fmt: skip
        return self.op("CONV_2D", [x, weights, bias], (n, -(-h // stride), -(-w // stride), filters), options)

    def depthwise(self, x: int, kernel: int = 3, stride: int = 1, activation: int = RELU6) -> int:
        n, h, w, c = self.shape(x)
        number = len(self.sub.ops)
        values = self.random.standard_normal((1, kernel, kernel, c)) * np.sqrt(2.0 / kernel**2)
        weights = self.constant(f"depthwise_{number}/weights", values.astype(np.float32))
        bias = self.constant(f"depthwise_{number}/bias", np.full(c, 0.05, np.float32))
        options = make_options(
            "DepthwiseConv2DOptions", padding=SAME, strideH=stride, strideW=stride, depthMultiplier=1,
            dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=activation,
        )  # fmt: skip
        return self.op("DEPTHWISE_CONV_2D", [x, weights, bias], (n, -(-h // stride), -(-w // stride), c), options)

    def add(self, a: int, b: int, activation: int = RELU) -> int:
        options = make_options("AddOptions", fusedActivationFunction=activation)
        return self.op("ADD", [a, b], self.shape(a), options)

    def mean(self, x: int) -> int:
        """Global average over height and width."""
        n, _, _, c = self.shape(x)
        axes = self.constant(f"mean_{len(self.sub.ops)}/axes", np.array([1, 2], np.int32))
        return self.op("MEAN", [x, axes], (n, c), make_options("ReducerOptions", keepDims=False))

    def dense(self, x: int, units: int, activation: int = NONE) -> int:
        n, inputs = self.shape(x)
        number = len(self.sub.ops)
        weights = self.weights(f"dense_{number}/weights", (units, inputs))
        bias = self.constant(f"dense_{number}/bias", self.random.normal(0, 0.1, units).astype(np.float32))
        options = make_options("FullyConnectedOptions", fusedActivationFunction=activation)
        return self.op("FULLY_CONNECTED", [x, weights, bias], (n, units), options)

    def softmax(self, x: int) -> int:
        return self.op("SOFTMAX", [x], self.shape(x), make_options("SoftmaxOptions", beta=1.0))

    def finish(self, *outputs: int, signature: bool = True) -> Graph:
        self.sub.outputs = list(outputs)
        if signature:
            self.graph.ensure_signature()
        return self.graph


def tiny_cnn_graph(
    seed: int = 0, *, size: int = 8, channels: int = 3, classes: int = 4, filters: int = 8, signature: bool = True
) -> Graph:
    """conv + ReLU -> depthwise + ReLU6 -> mean -> fully connected -> softmax: "image" [1, size, size, channels] -> [1,
    classes].
    """
    b = TinyBuilder(seed)
    x = b.input("image", (1, size, size, channels))
    x = b.depthwise(b.conv(x, filters, stride=2))
    return b.finish(b.softmax(b.dense(b.mean(x), classes)), signature=signature)


def tiny_cnn(seed: int = 0, **options: Any) -> bytes:
    """`tiny_cnn_graph` as bytes, about 3 kB."""
    return tiny_cnn_graph(seed, **options).write()


def tiny_residual(seed: int = 0, *, size: int = 8, channels: int = 3, classes: int = 4) -> bytes:
    """Two convolutions around a residual ADD, then as `tiny_cnn`; about 6 kB."""
    b = TinyBuilder(seed)
    trunk = b.conv(b.input("image", (1, size, size, channels)), 8)
    x = b.add(b.conv(b.conv(trunk, 8), 8, activation=NONE), trunk)
    return b.finish(b.softmax(b.dense(b.mean(x), classes))).write()


def tiny_mlp(seed: int = 0, *, features: int = 10, hidden: int = 16, classes: int = 3) -> bytes:
    """ "features" [1, features] -> dense + ReLU -> dense -> softmax [1, classes]; about 2 kB."""
    b = TinyBuilder(seed)
    x = b.dense(b.input("features", (1, features)), hidden, activation=RELU)
    return b.finish(b.softmax(b.dense(x, classes))).write()


def tiny_two_inputs(seed: int = 0) -> bytes:
    """ "left" and "right" [1, 4] -> their sum, and a softmax of it: two inputs, two outputs, no weights."""
    b = TinyBuilder(seed)
    total = b.add(b.input("left", (1, 4)), b.input("right", (1, 4)), activation=NONE)
    return b.finish(total, b.softmax(total)).write()
