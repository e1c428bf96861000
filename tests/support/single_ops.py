"""One-op models of many kinds and number formats, to compare predicted placements with what the runtime does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options

NHWC = (1, 8, 8, 4)
_CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
_POOL = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}


@dataclass(frozen=True)
class Case:
    """`constants`: shapes of weights (in the model's number format; the second is the bias), or int32 arrays."""

    op: str
    inputs: Sequence[tuple[int, ...]]
    output: tuple[int, ...]
    constants: Sequence[Any] = ()
    options: str = ""
    fields: tuple[tuple[str, Any], ...] = ()
    constants_first: bool = False


def _case(op: str, inputs: Any, output: Any, constants: Any = (), options: str = "", **fields: Any) -> Case:
    first = fields.pop("constants_first", False)
    return Case(op, inputs, output, constants, options, tuple(fields.items()), first)


def _array(*values: int) -> Any:
    return np.array(values, np.int32)


CASES = (
    _case("CONV_2D", [NHWC], (1, 8, 8, 6), [(6, 3, 3, 4), (6,)], "Conv2DOptions", **_CONV),
    _case(
        "DEPTHWISE_CONV_2D", [NHWC], NHWC, [(1, 3, 3, 4), (4,)], "DepthwiseConv2DOptions", depthMultiplier=1, **_CONV
    ),
    _case(
        "TRANSPOSE_CONV", [NHWC], (1, 16, 16, 6), [_array(1, 16, 16, 6), (6, 2, 2, 4)], "TransposeConvOptions",
        strideH=2, strideW=2, constants_first=True,
    ),
    _case("FULLY_CONNECTED", [(1, 16)], (1, 8), [(8, 16), (8,)], "FullyConnectedOptions"),
    _case("BATCH_MATMUL", [(1, 4, 8), (1, 8, 4)], (1, 4, 4), (), "BatchMatMulOptions"),
    _case("AVERAGE_POOL_2D", [NHWC], (1, 4, 4, 4), (), "Pool2DOptions", **_POOL),
    _case("MAX_POOL_2D", [NHWC], (1, 4, 4, 4), (), "Pool2DOptions", **_POOL),
    _case("MEAN", [NHWC], (1, 4), [_array(1, 2)], "ReducerOptions"),
    _case("SUM", [NHWC], (1, 4), [_array(1, 2)], "ReducerOptions"),
    _case("REDUCE_MAX", [NHWC], (1, 4), [_array(1, 2)], "ReducerOptions"),
    _case("REDUCE_MIN", [NHWC], (1, 4), [_array(1, 2)], "ReducerOptions"),
    _case("SOFTMAX", [(1, 10)], (1, 10), (), "SoftmaxOptions", beta=1.0),
    _case("LOG_SOFTMAX", [(1, 10)], (1, 10), (), "LogSoftmaxOptions"),
    _case("RESHAPE", [NHWC], (1, 256), [_array(1, 256)], "ReshapeOptions", newShape=[1, 256]),
    _case("SQUEEZE", [NHWC], (8, 8, 4), (), "SqueezeOptions", squeezeDims=[0]),
    _case("EXPAND_DIMS", [(8, 4)], (1, 8, 4), [_array(0)]),
    _case("TRANSPOSE", [NHWC], (1, 4, 8, 8), [_array(0, 3, 1, 2)]),
    _case("PAD", [NHWC], (1, 10, 10, 4), [np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)]),
    _case(
        "MIRROR_PAD", [NHWC], (1, 10, 10, 4), [np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)],
        "MirrorPadOptions",
    ),
    _case("CONCATENATION", [NHWC, NHWC], (1, 8, 8, 8), (), "ConcatenationOptions", axis=3),
    _case("SLICE", [NHWC], (1, 4, 4, 4), [_array(0, 1, 1, 0), _array(1, 4, 4, 4)]),
    _case(
        "STRIDED_SLICE", [NHWC], (1, 4, 4, 4), [_array(0, 0, 0, 0), _array(1, 4, 4, 4), _array(1, 1, 1, 1)],
        "StridedSliceOptions",
    ),
    _case("RESIZE_BILINEAR", [NHWC], (1, 16, 16, 4), [_array(16, 16)], "ResizeBilinearOptions", halfPixelCenters=True),
    _case("RESIZE_NEAREST_NEIGHBOR", [NHWC], (1, 16, 16, 4), [_array(16, 16)], "ResizeNearestNeighborOptions"),
    _case("SPACE_TO_DEPTH", [NHWC], (1, 4, 4, 16), (), "SpaceToDepthOptions", blockSize=2),
    _case("DEPTH_TO_SPACE", [NHWC], (1, 16, 16, 1), (), "DepthToSpaceOptions", blockSize=2),
    _case("PRELU", [NHWC], NHWC, [(1, 1, 4)]),
    _case("LEAKY_RELU", [NHWC], NHWC, (), "LeakyReluOptions", alpha=0.1),
    _case("L2_NORMALIZATION", [(1, 16)], (1, 16), (), "L2NormOptions"),
    _case("GATHER", [(8, 4)], (2, 4), [_array(0, 3)], "GatherOptions"),
    _case("ARG_MAX", [(1, 10)], (1,), [_array(1)], "ArgMaxOptions", outputType=2),
    _case("PACK", [(4,), (4,)], (2, 4), (), "PackOptions", valuesCount=2),
    _case("TILE", [(1, 4)], (2, 4), [_array(2, 1)]),
    *[
        _case(name, [NHWC, NHWC], NHWC, (), options)
        for name, options in (
            ("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions"), ("DIV", "DivOptions"),
            ("MAXIMUM", "MaximumMinimumOptions"), ("MINIMUM", "MaximumMinimumOptions"),
            ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"), ("POW", "PowOptions"), ("FLOOR_DIV", "FloorDivOptions"),
        )
    ],
    *[
        _case(name, [NHWC], NHWC)
        for name in (
            "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "ELU", "HARD_SWISH", "GELU", "ABS",
            "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "FLOOR", "CEIL", "ROUND", "SIN", "COS",
        )
    ],
)  # fmt: skip

FORMATS = ("float32", "int8", "uint8", "int16", "hybrid")
_FIXED_OUTPUT = {
    "SOFTMAX": (1 / 256, -128),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}
"""Scale and zero point that kernels insist on for int8."""


def build(case: Case, number_format: str) -> Graph:
    """The case's model. "hybrid": float activations, int8 weights."""
    dtype = "float32" if number_format == "hybrid" else number_format
    random = np.random.default_rng(0)
    sub = Subgraph("main", [], [], [], [])
    graph = Graph([sub])

    def activation(name: str, shape: tuple[int, ...], scale: float = 0.05, zero_point: int = 0) -> int:
        quantization = None
        if dtype != "float32":
            zero = zero_point + 128 if dtype == "uint8" else 0 if dtype == "int16" else zero_point
            quantization = Quantization.per_tensor(scale, zero)
        return sub.add_tensor(Tensor(name, shape, dtype, quantization=quantization))

    def constant(position: int, value: Any) -> int:
        if isinstance(value, np.ndarray):
            data: Any = value.reshape(()) if case.op == "ARG_MAX" else value
            return sub.add_tensor(Tensor(f"constant_{position}", data.shape, "int32", data))
        bias = position == 1 and len(value) == 1
        if number_format == "float32" or (bias and number_format == "hybrid"):
            return sub.add_tensor(Tensor(f"w{position}", value, data=random.standard_normal(value).astype(np.float32)))
        if bias:
            kind = "int64" if dtype == "int16" else "int32"
            return sub.add_tensor(
                Tensor("bias", value, kind, np.zeros(value, kind), Quantization.per_tensor(0.05 * 0.01))
            )
        kind, zero = ("uint8", 128) if dtype == "uint8" else ("int8", 0)
        codes = random.integers(-100, 100, value) + zero
        return sub.add_tensor(
            Tensor(f"w{position}", value, kind, codes.astype(kind), Quantization.per_tensor(0.01, zero))
        )

    inputs = [activation(f"x{i}", shape) for i, shape in enumerate(case.inputs)]
    constants = [constant(i, value) for i, value in enumerate(case.constants)]
    output = activation("y", case.output, *_FIXED_OUTPUT.get(case.op, (0.05, 0)))
    if case.op == "ARG_MAX":
        sub.tensors[output].dtype, sub.tensors[output].quantization = "int32", None
    ordered = constants + inputs if case.constants_first else inputs + constants
    options = make_options(case.options, **dict(case.fields)) if case.options else None
    version = 2 if dtype == "int8" else 4 if dtype == "int16" else 1
    sub.ops = [Op(case.op, ordered, [output], options, version)]
    sub.inputs, sub.outputs = inputs, [output]
    return graph


def single_ops() -> Iterator[tuple[Case, str, Graph]]:
    """Every case in every format; the runtime refuses some of them."""
    for case in CASES:
        for number_format in FORMATS:
            if number_format == "hybrid" and not any(isinstance(c, tuple) for c in case.constants):
                continue
            yield case, number_format, build(case, number_format)
