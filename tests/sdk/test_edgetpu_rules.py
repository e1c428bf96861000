"""What logs of the real compiler say, redone with tiny graphs of the same ops, shapes and types (docs/coral.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeloop.analysis import analyze
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.targets import load_target

CORAL = load_target("coral-usb")


class Chain:
    """Ops one behind the other on one value, int8 unless said otherwise."""

    def __init__(self, shape: Sequence[int], dtype: str = "int8") -> None:
        self.sub = Subgraph("main", [], [], [], [])
        self.last = self._value(shape, dtype)
        self.sub.inputs = [self.last]

    def _value(self, shape: Sequence[int], dtype: str) -> int:
        quantization = Quantization.per_tensor(0.1) if dtype in ("int8", "uint8", "int16") else None
        name = f"t{len(self.sub.tensors)}"
        return self.sub.add_tensor(Tensor(name, tuple(shape), dtype, quantization=quantization))

    def constant(self, data: Any, quantized: bool = True) -> int:
        array = np.asarray(data)
        quantization = Quantization.per_tensor(0.1) if quantized and array.dtype.itemsize == 1 else None
        return self.sub.add_tensor(
            Tensor(f"c{len(self.sub.tensors)}", array.shape, str(array.dtype), array, quantization)
        )

    def op(
        self, name: str, shape: Sequence[int], *more: int, dtype: str = "int8", options: Any = None, version: int = 1,
        custom: bool = False, source: int | None = None,
    ) -> Chain:  # fmt: skip
        output = self._value(shape, dtype)
        inputs = [self.last if source is None else source, *more]
        self.sub.ops.append(Op(name, inputs, [output], options, version, custom))
        self.last = output
        return self

    def conv(self, filters: int, version: int = 3) -> Chain:
        n, h, w, c = self.sub.tensors[self.last].shape
        weights = self.constant(np.zeros((filters, 1, 1, c), np.int8))
        return self.op("CONV_2D", (n, h, w, filters), weights, version=version)

    def resize(self, height: int, width: int, name: str = "RESIZE_BILINEAR", version: int = 3) -> Chain:
        n, _, _, c = self.sub.tensors[self.last].shape
        size = self.constant(np.array([height, width], np.int32))
        return self.op(name, (n, height, width, c), size, version=version)

    @property
    def graph(self) -> Graph:
        self.sub.outputs = [self.last]
        return Graph([self.sub])

    @property
    def mapped(self) -> list[bool]:
        return [op.placement == "edgetpu" for op in analyze(self.graph, CORAL).ops]

    def reason(self, index: int) -> str:
        return analyze(self.graph, CORAL).ops[index].reason


def test_a_quantize_of_codes_is_mapped_alone_where_the_next_op_is_not() -> None:
    """yolov5s, compiler 15: QUANTIZE 1 mapped, STRIDED_SLICE 4 "only ... unitary strides", all else behind it."""
    steps = np.array([1, 2, 2, 1], np.int32)
    chain = Chain((1, 64, 64, 3), "uint8").op("QUANTIZE", (1, 64, 64, 3))
    slices = [chain.constant(a) for a in (np.zeros(4, np.int32), np.array([0, 64, 64, 3], np.int32), steps)]
    chain.op("STRIDED_SLICE", (1, 32, 32, 3), *slices, options=make_options("StridedSliceOptions")).conv(8)
    assert chain.mapped == [True, False, False]
    assert "only strides of 1" in chain.reason(1)


def test_leaky_relu_ends_the_program() -> None:
    """yolov3-tiny, compiler 15: QUANTIZE and the first CONV_2D mapped; LEAKY_RELU 11 "Operation not supported"."""
    chain = Chain((1, 32, 32, 3), "uint8").op("QUANTIZE", (1, 32, 32, 3)).conv(8)
    chain.op("LEAKY_RELU", (1, 32, 32, 8)).conv(8)
    assert chain.mapped == [True, True, False, False]


@pytest.mark.parametrize("name", ["HARD_SWISH", "GATHER", "EXP", "DIV", "ELU", "SPLIT_V", "ARG_MIN", "TOPK_V2", "TILE"])
def test_ops_that_logs_call_not_supported(name: str) -> None:
    assert Chain((1, 8, 8, 4)).conv(4).op(name, (1, 8, 8, 4)).mapped == [True, False]


def test_float_input_and_output_stay_outside() -> None:
    """mnist with float I/O, compiler 15: QUANTIZE "otherwise supported", DEQUANTIZE "unsupported data type"."""
    chain = Chain((1, 28, 28, 1), "float32").op("QUANTIZE", (1, 28, 28, 1)).conv(4)
    chain.op("DEQUANTIZE", (1, 28, 28, 4), dtype="float32")
    assert chain.mapped == [False, True, False]


def test_arg_max_and_detection_boxes_are_of_another_data_type() -> None:
    """ARG_MAX 1 and CUSTOM 1 "Operation is working on an unsupported data type"."""
    chain = Chain((1, 8, 8, 4)).conv(4).op("ARG_MAX", (1, 8, 8), dtype="int64")
    assert chain.mapped == [True, False]
    boxes = Chain((1, 10, 4)).op("LOGISTIC", (1, 10, 4))
    boxes.op("TFLite_Detection_PostProcess", (1, 5, 4), dtype="float32", custom=True)
    assert boxes.mapped == [True, False]


def test_efficientdet_heads_are_mapped_up_to_the_boxes() -> None:
    """EfficientDet-Lite0, compiler 16: 264 of 267; DEQUANTIZE 2 and CUSTOM 1 are left."""
    chain = Chain((1, 20, 20, 64), "uint8").op("QUANTIZE", (1, 20, 20, 64))
    chain.resize(40, 40, "RESIZE_NEAREST_NEIGHBOR").conv(45)
    chain.op("RESHAPE", (1, 14400, 5), chain.constant(np.array([1, 14400, 5], np.int32)))
    chain.op("LOGISTIC", (1, 14400, 5)).op("DEQUANTIZE", (1, 14400, 5), dtype="float32")
    chain.op("TFLite_Detection_PostProcess", (1, 5, 4), dtype="float32", custom=True)
    assert chain.mapped == [True] * 5 + [False, False]


def test_more_than_three_dimensions_are_an_unsupported_rank() -> None:
    """FPN upsampling by PACK and RESHAPE, compiler 14: both "Tensor has unsupported rank", all behind them left."""
    chain = Chain((1, 10, 10, 8)).conv(8)
    chain.op("PACK", (1, 10, 10, 2, 8), chain.last, options=make_options("PackOptions", axis=3, valuesCount=2))
    chain.op("RESHAPE", (1, 10, 20, 8), chain.constant(np.array([1, 10, 20, 8], np.int32))).conv(8)
    assert chain.mapped == [True, False, False, False]
    assert "more than 3 dimensions" in chain.reason(1)


@pytest.mark.parametrize(
    ("before", "after", "channels", "is_mapped"),
    [
        (1, 33, 256, False),  # DeepLab's pooled branch, compiled pair
        (12, 24, 32, True),  # MoveNet, compiled pair
        (24, 48, 24, True),  # MoveNet, compiled pair
        (40, 80, 64, True),  # YOLOv5n at 640, all 209 ops mapped
        (64, 128, 32, True),  # "128x128 input maps perfectly"
        (256, 512, 32, False),  # "512x512 input: otherwise supported"
        (512, 1024, 6, False),  # "not mapped due to their size"
        (512, 1024, 3, False),  # nearest, the same
    ],
)
def test_resizes_are_mapped_by_factor_and_size(before: int, after: int, channels: int, is_mapped: bool) -> None:
    for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        chain = Chain((1, before, before, channels)).conv(channels).resize(after, after, name)
        assert chain.mapped == [True, is_mapped]


def test_dense_layers_want_constant_weights_and_one_dimension_out() -> None:
    """Issues 25 and 27: "Filter, bias, or other param is not constant", "fully-connected ... with 2D output"."""
    computed = Chain((1, 16))
    computed.op("FULLY_CONNECTED", (1, 8), computed._value((8, 16), "int8"))
    assert computed.mapped == [False] and "computed" in computed.reason(0)
    rows = Chain((1, 180, 27))
    rows.op("FULLY_CONNECTED", (1, 180, 4), rows.constant(np.zeros((4, 27), np.int8)))
    assert rows.mapped == [False] and "more than one dimension" in rows.reason(0)
    bias = Chain((1, 16))
    weights, computed_bias = bias.constant(np.zeros((8, 16), np.int8)), bias._value((8,), "int8")
    bias.op("FULLY_CONNECTED", (1, 8), weights, computed_bias)
    assert bias.mapped == [False]


@pytest.mark.parametrize(("version", "is_mapped"), [(4, True), (6, True), (9, True), (12, False)])
def test_dense_versions(version: int, is_mapped: bool) -> None:
    """Without bias they have version 6, and are mapped; per-channel weights raise it to 12."""
    chain = Chain((1, 16)).op("RELU", (1, 16))
    chain.op("FULLY_CONNECTED", (1, 8), chain.constant(np.zeros((8, 16), np.int8)), version=version)
    assert chain.mapped == [is_mapped, is_mapped]


def test_a_version_it_does_not_know_stops_the_reading_of_all() -> None:
    """Issue 631: "Didn't find op for builtin opcode 'CONV_2D' version '6'", and nothing is compiled."""
    chain = Chain((1, 8, 8, 4)).op("RELU", (1, 8, 8, 4)).conv(4, version=6)
    assert chain.mapped == [False, False]
    assert "cannot read the model: op 1 (CONV_2D) has version 6" in chain.reason(0)


def test_sixteen_bit_activations_are_not_taken() -> None:
    chain = Chain((1, 8, 8, 4), "int16").op("ADD", (1, 8, 8, 4), dtype="int16")
    assert chain.mapped == [False]


def test_a_transpose_convolution_may_have_its_bias_behind_the_activations() -> None:
    chain = Chain((1, 8, 8, 4))
    shape, weights = chain.constant(np.array([1, 16, 16, 4], np.int32)), chain.constant(np.zeros((4, 2, 2, 4), np.int8))
    x, bias = chain.last, chain.constant(np.zeros(4, np.int32))
    chain.op("TRANSPOSE_CONV", (1, 16, 16, 4), weights, x, bias, source=shape, version=3)
    assert chain.mapped == [True]
    chain.sub.tensors[bias].data = None
    assert chain.mapped == [False]
