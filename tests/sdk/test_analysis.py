"""Figures of `analyze`: multiply-accumulates, parameters, layers, peak memory; and its robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.analysis import analyze
from edgeloop.analysis.memory import peak_memory_bytes
from edgeloop.errors import RefusedError
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.targets import load_target
from support.tiny_models import tiny_cnn, tiny_cnn_graph, tiny_residual
from support.whole_schema import while_loop, whole_schema


@pytest.mark.parametrize(
    ("name", "millions", "parameters", "layers"),
    [
        ("mlperf_tiny/pretrainedResnet", 12.5, 77_706, 10),
        ("mlperf_tiny/pretrainedResnet_quant", 12.5, 77_706, 10),
        ("mlperf_tiny/pretrainedResnet_large_int8", 76.5, 480_330, 10),
        ("mlperf_tiny/kws_ref_model", 2.66, 22_604, 10),
        ("coral/mobilenet_v2_1.0_224_quant", 300.8, 3_489_097, 53),
        ("coral/tf2_mobilenet_v2_1.0_224_ptq", 300.8, 3_489_097, 53),
    ],
)
def test_published_figures_of_real_models(
    shared_data: Path, name: str, millions: float, parameters: int, layers: int
) -> None:
    analysis = analyze(Graph.read(shared_data / "models" / f"{name}.tflite"))
    assert analysis.macs / 1e6 == pytest.approx(millions, rel=0.005)
    assert (analysis.parameters, analysis.layers) == (parameters, layers)


def test_figures_of_a_small_model_by_hand() -> None:
    analysis = analyze(Graph.read(tiny_cnn()))
    conv, depthwise, mean, dense, softmax = analysis.ops
    assert conv.macs == 4 * 4 * 8 * (3 * 3 * 3)
    assert depthwise.macs == 4 * 4 * 8 * (3 * 3)
    assert (mean.macs, dense.macs, softmax.macs) == (0, 8 * 4, 0)
    assert analysis.macs == conv.macs + depthwise.macs + dense.macs
    assert [op.parameters for op in analysis.ops] == [27 * 8 + 8, 9 * 8 + 8, 0, 8 * 4 + 4, 0]
    assert analysis.layers == 3
    assert analysis.peak_memory_bytes == 4 * (8 * 8 * 3 + 4 * 4 * 8)  # the image and the first output
    assert [op.name for op in analysis.ops[:2]] == ["CONV_2D", "DEPTHWISE_CONV_2D"]


def one_op(op: Op, tensors: list[Tensor]) -> Graph:
    return Graph([Subgraph("main", tensors, [0], list(op.outputs), [op])])


def weights(*shape: int) -> Tensor:
    return Tensor("w", shape, data=np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("op", "tensors", "macs"),
    [
        (
            Op("TRANSPOSE_CONV", [2, 1, 0], [3]),
            [Tensor("x", (1, 4, 4, 8)), weights(6, 3, 3, 8), weights(4), Tensor("y", (1, 8, 8, 6))],
            4 * 4 * 8 * (3 * 3 * 6),
        ),
        (
            Op("BATCH_MATMUL", [0, 1], [2], make_options("BatchMatMulOptions", adjX=True)),
            [Tensor("x", (2, 7, 3)), Tensor("b", (2, 7, 5)), Tensor("y", (2, 3, 5))],
            2 * 3 * 5 * 7,
        ),
        (
            Op("CONV_3D", [0, 1], [2]),
            [Tensor("x", (1, 4, 4, 4, 2)), weights(3, 3, 3, 2, 5), Tensor("y", (1, 4, 4, 4, 5))],
            4 * 4 * 4 * 5 * 27 * 2,
        ),
        (
            Op("UNIDIRECTIONAL_SEQUENCE_LSTM", [0, 1, 1, 2, -1], [3]),
            [Tensor("x", (1, 10, 6)), weights(4, 6), weights(4, 4), Tensor("y", (1, 10, 4))],
            10 * (2 * 4 * 6 + 4 * 4),
        ),
        (
            Op("FULLY_CONNECTED", [0, 1, -1], [2]),
            [Tensor("x", (5, 1, 8)), weights(3, 8), Tensor("y", (5, 3))],
            5 * 3 * 8,
        ),
        (
            Op("CONV_2D", [0, 1], [2]),
            [Tensor("x", (1, 8, 8, 8)), weights(16, 1, 1, 2), Tensor("y", (1, 8, 8, 16))],
            8 * 8 * 16 * 2,  # four groups of two input channels
        ),
        (Op("CONV_2D", [0], [1], custom=True), [Tensor("x", (1,)), Tensor("y", (1,))], 0),
    ],
)
def test_multiply_accumulates_by_kind_of_op(op: Op, tensors: list[Tensor], macs: int) -> None:
    assert analyze(one_op(op, tensors)).macs == macs


def test_work_inside_a_loop_counts_once() -> None:
    graph = tiny_cnn_graph()
    alone = analyze(graph).macs
    loop = make_options("WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    condition = Subgraph("condition", [Tensor("go on", (), "bool")], [], [0], [])
    main = Subgraph("main", [Tensor("x", (1, 8, 8, 3)), Tensor("y", (1, 4))], [0], [1], [Op("WHILE", [0], [1], loop)])
    assert analyze(Graph([main, condition, graph.main])).macs == alone


def test_subgraphs_that_run_each_other_end() -> None:
    """Without a memory of what was counted this would take 50 ** 3 rounds and more."""
    loops = [Op("WHILE", [], [], make_options("WhileOptions", condSubgraphIndex=i, bodySubgraphIndex=j))
             for i in (1, 2, 3) for j in (1, 2, 3)] * 6  # fmt: skip
    assert analyze(Graph([Subgraph(str(i), [], [], [], list(loops)) for i in range(4)])).macs == 0


def test_shared_weights_are_counted_once_and_shapes_never() -> None:
    shared = weights(4, 6)
    twice = [Op("FULLY_CONNECTED", [0, 1], [3]), Op("FULLY_CONNECTED", [0, 2], [4])]
    tensors = [
        Tensor("x", (1, 6)),
        shared,
        Tensor("w2", (4, 6), data=shared.data),
        Tensor("y", (1, 4)),
        Tensor("z", (1, 4)),
    ]
    shape = Tensor("shape", (2,), "int32", np.array([2, 2], np.int32))
    reshape = Op("RESHAPE", [3, 5], [6])
    graph = Graph([Subgraph("main", [*tensors, shape, Tensor("r", (2, 2))], [0], [4, 6], [*twice, reshape])])
    analysis = analyze(graph)
    assert (analysis.parameters, analysis.layers) == (24, 2)


def test_integer_bias_of_a_quantized_layer_is_a_parameter() -> None:
    q = Quantization.per_tensor(0.1)
    tensors = [
        Tensor("x", (1, 2), "int8", quantization=q),
        Tensor("w", (3, 2), "int8", np.zeros((3, 2), np.int8), q),
        Tensor("b", (3,), "int32", np.zeros(3, np.int32), q),
        Tensor("y", (1, 3), "int8", quantization=q),
    ]
    assert analyze(one_op(Op("FULLY_CONNECTED", [0, 1, 2], [3]), tensors)).parameters == 9


def chain(*sizes: int) -> Subgraph:
    tensors = [Tensor(str(i), (size,)) for i, size in enumerate(sizes)]
    return Subgraph("main", tensors, [0], [len(sizes) - 1], [Op("RELU", [i], [i + 1]) for i in range(len(sizes) - 1)])


def test_peak_memory_of_a_chain_is_its_dearest_pair() -> None:
    assert peak_memory_bytes(chain(10, 100, 50, 5)) == 4 * 150


def test_peak_memory_keeps_what_a_later_op_reads() -> None:
    sub = chain(10, 100, 50, 5)
    sub.ops[-1].inputs.append(0)  # the input is read again at the end
    assert peak_memory_bytes(sub) == 4 * 160
    sub.outputs.append(1)
    assert peak_memory_bytes(sub) == 4 * (10 + 100 + 50 + 5)


def test_peak_memory_counts_variables_always_and_constants_never() -> None:
    sub = chain(10, 20)
    sub.tensors.append(Tensor("state", (1000,), is_variable=True))
    sub.tensors.append(weights(500))
    sub.ops[0].inputs += [2, 3]
    assert peak_memory_bytes(sub) == 4 * 1030


def test_peak_memory_of_eight_bit_and_of_residual_models() -> None:
    assert peak_memory_bytes(Graph.read(tiny_residual()).main) == 4 * 3 * (8 * 8 * 8)
    sub = chain(10, 30)
    for tensor in sub.tensors:
        tensor.dtype = "int8"
    assert peak_memory_bytes(sub) == 40


def test_json_has_the_promised_keys_and_no_others() -> None:
    data = analyze(Graph.read(tiny_cnn()), load_target("coral-usb")).to_dict()
    own = ["macs", "parameters", "layers", "peak_memory_bytes", "ops", "delegates"]
    assert list(data) == [*own, "edgetpu", "xnnpack"]
    assert {tuple(op) for op in data["ops"]} == {("index", "name", "placement", "reason")}
    assert [op["index"] for op in data["ops"]] == [0, 1, 2, 3, 4]
    assert {tuple(plan) for plan in data["delegates"].values()} == {("mapped_ops", "total_ops", "status")}
    assert list(data["delegates"]) == ["edgetpu", "xnnpack"]


@pytest.mark.parametrize("target", [None, "rpi4", "coral-usb", "generic-armv7"])
def test_models_with_unusual_parts_are_analyzed(target: str | None) -> None:
    board = load_target(target) if target else None
    for model in (whole_schema(outside=False), while_loop()):
        analysis = analyze(Graph.read(model), board)
        assert all(op.placement in ("edgetpu", "xnnpack", "cpu") for op in analysis.ops)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([tiny_cnn(), while_loop(), whole_schema(outside=False)]), st.data())
def test_damaged_models_are_refused_or_analyzed(model: bytes, data: Any) -> None:
    damaged = bytearray(model)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = Graph.read(bytes(damaged))
    except RefusedError:
        return
    analyze(graph, load_target("coral-usb")).to_dict()
