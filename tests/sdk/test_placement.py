"""Predicted placements against what really happens: the installed runtime's XNNPACK, the Edge TPU compiler's output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.analysis import analyze
from edgeloop.edgetpu_compiler import left_on_cpu
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.runtime import open_session
from edgeloop.targets import load_target
from support.single_ops import CASES, FORMATS, Case, build

REAL = (
    "coral/deeplabv3_mnv2_dm05_pascal_quant",
    "coral/keras_lstm_mnist_ptq",
    "coral/mobilenet_v1_0.25_128_quant",
    "coral/mobilenet_v2_1.0_224_quant",
    "coral/movenet_single_pose_lightning_ptq",
    "coral/tf2_mobilenet_v2_1.0_224_ptq",
    "mlperf_tiny/kws_ref_model",
    "mlperf_tiny/kws_ref_model_float32",
    "mlperf_tiny/pretrainedResnet",
    "mlperf_tiny/pretrainedResnet_quant",
)
CRASHES_THE_RUNTIME = {("BATCH_MATMUL", "uint8")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_xnnpack_takes_what_is_predicted_op_by_op(case: Case) -> None:
    for number_format in FORMATS:
        weighted = any(isinstance(c, tuple) for c in case.constants)
        if (number_format == "hybrid" and not weighted) or (case.op, number_format) in CRASHES_THE_RUNTIME:
            continue
        graph = build(case, number_format)
        try:
            with open_session(graph.write(), delegate="xnnpack") as session:
                ran = session.ran_on.ran
        except Exception:  # combinations that no kernel of the runtime has
            continue
        (op,) = analyze(graph).ops
        assert op.placement == ran, (number_format, op.reason)
        assert bool(op.reason) == (ran == "cpu")


@pytest.mark.parametrize("ratio", [2.0**-18, 2.0**-16.5, 2.0**-15.5, 2.0**-8, 2.0**7.5, 2.0**8.5])
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL"])
def test_xnnpack_takes_scales_that_are_not_too_far_apart(op: str, ratio: float) -> None:
    graph = build(next(case for case in CASES if case.op == op), "int8")
    first, second, output = (graph.main.tensors[i] for i in (*graph.main.inputs, *graph.main.outputs))
    second.quantization = Quantization.per_tensor(1.0)
    first.quantization = Quantization.per_tensor(ratio if op == "MUL" else 1.0)
    output.quantization = Quantization.per_tensor(1.0 if op == "MUL" else 1.0 / ratio)
    with open_session(graph.write(), delegate="xnnpack") as session:
        assert analyze(graph).ops[0].placement == session.ran_on.ran


@pytest.mark.parametrize("zero_point", [0, 3])
def test_xnnpack_multiplies_matrices_whose_second_has_no_zero_point(zero_point: int) -> None:
    graph = build(next(case for case in CASES if case.op == "BATCH_MATMUL"), "int8")
    graph.main.tensors[graph.main.inputs[1]].quantization = Quantization.per_tensor(0.05, zero_point)
    with open_session(graph.write(), delegate="xnnpack") as session:
        assert analyze(graph).ops[0].placement == session.ran_on.ran == ("cpu" if zero_point else "xnnpack")


@pytest.mark.parametrize("number_format", ["int8", "hybrid"])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("inputs", [16, 15])
def test_xnnpack_takes_int4_weights_in_dense_layers_of_even_width(op: str, number_format: str, inputs: int) -> None:
    graph = build(next(case for case in CASES if case.op == op), number_format)
    main = graph.main
    weights = main.tensors[main.ops[0].inputs[1]]
    assert weights.data is not None
    weights.dtype, weights.data = "int4", np.clip(weights.data, -7, 7)
    if op == "FULLY_CONNECTED":
        main.tensors[main.inputs[0]].shape, weights.shape = (1, inputs), (8, inputs)
        weights.data = weights.data[:, :inputs]
    with open_session(graph.write(), delegate="xnnpack") as session:
        expected = "xnnpack" if op == "FULLY_CONNECTED" and inputs == 16 else "cpu"
        assert analyze(graph).ops[0].placement == session.ran_on.ran == expected


def test_xnnpack_takes_weights_that_are_unpacked_from_float16() -> None:
    graph = build(next(case for case in CASES if case.op == "CONV_2D"), "float32")
    main = graph.main
    weights = main.ops[0].inputs[1]
    packed = main.tensors[weights]
    assert packed.data is not None
    half = main.add_tensor(Tensor("half", packed.shape, "float16", packed.data.astype(np.float16)))
    packed.data = None
    main.ops.insert(0, Op("DEQUANTIZE", [half], [weights]))
    with open_session(graph.write(), delegate="xnnpack") as session:
        assert session.delegated == {op.index for op in analyze(graph).ops if op.placement == "xnnpack"} == {0, 1}


@pytest.mark.parametrize("name", REAL)
def test_xnnpack_takes_what_is_predicted_of_real_models(shared_data: Path, name: str) -> None:
    path = shared_data / "models" / f"{name}.tflite"
    analysis = analyze(Graph.read(path))
    predicted = {op.index for op in analysis.ops if op.placement == "xnnpack"}
    with open_session(path, delegate="xnnpack") as session:
        assert predicted == session.delegated
        programs = session._interpreter._interpreter.NumNodes() - len(analysis.ops)
    assert analysis.delegates["xnnpack"].preflight.borders.partitions == programs


@pytest.mark.parametrize(
    "name",
    [
        "coral/deeplabv3_mnv2_dm05_pascal_quant",
        "coral/keras_lstm_mnist_ptq",
        "coral/mobilenet_v1_0.25_128_quant",
        "coral/movenet_single_pose_lightning_ptq",
    ],
)
def test_edge_tpu_takes_the_ops_that_the_real_compiler_mapped(shared_data: Path, name: str) -> None:
    coral = load_target("coral-usb")
    before = Graph.read(shared_data / "models" / f"{name}.tflite")
    compiled = Graph.read(shared_data / "models" / f"{name}_edgetpu.tflite")
    analysis = analyze(before, coral)
    off = {op.index for op in analysis.ops if op.placement != "edgetpu"}
    assert off == left_on_cpu(before, compiled).keys()
    plan = analysis.delegates["edgetpu"]
    assert plan.status == "predicted"
    expected = analyze(compiled, coral).delegates["edgetpu"].preflight.fit
    estimate = plan.preflight.fit
    assert expected is not None and expected.is_exact and estimate is not None and not estimate.is_exact
    assert estimate.on_chip_bytes == pytest.approx(expected.on_chip_bytes, rel=0.11)


def test_compiled_model_is_confirmed_and_its_rest_is_not_on_the_edge_tpu(shared_data: Path) -> None:
    graph = Graph.read(shared_data / "models" / "coral" / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite")
    for target in (None, load_target("coral-usb")):
        analysis = analyze(graph, target)
        assert analysis.delegates["edgetpu"].status == "confirmed"
        assert [op.placement == "edgetpu" for op in analysis.ops] == [True] + [False] * 8
        assert "left on the CPU by the Edge TPU compiler" in analysis.ops[1].reason


def quantized(*ops: Op, shapes: dict[int, tuple[int, ...]] | None = None, constants: tuple[int, ...] = ()) -> Graph:
    """Tensors as many as the ops name, int8 [1, 8, 8, 4] unless `shapes` says otherwise."""
    count = 1 + max(i for op in ops for i in (*op.inputs, *op.outputs))
    tensors = []
    for index in range(count):
        shape = (shapes or {}).get(index, (1, 8, 8, 4))
        data = np.zeros(shape, np.int8) if index in constants else None
        tensors.append(Tensor(str(index), shape, "int8", data, Quantization.per_tensor(0.1)))
    return Graph([Subgraph("main", tensors, [0], [count - 1], list(ops))])


def placements(graph: Graph, target: str = "coral-usb") -> list[str]:
    return [op.placement for op in analyze(graph, load_target(target)).ops]


def test_nothing_returns_to_the_edge_tpu_behind_an_op_it_cannot_take() -> None:
    graph = quantized(Op("RELU", [0], [1]), Op("ABS", [1], [2]), Op("LOGISTIC", [2], [3]), Op("TANH", [1], [4]))
    assert placements(graph) == ["edgetpu", "cpu", "xnnpack", "edgetpu"]
    last = analyze(graph, load_target("coral-usb")).ops[2]
    assert last.reason == "not edgetpu: comes after op 1 (ABS), which it cannot take"


def test_ops_it_cannot_take_may_stand_in_front() -> None:
    graph = quantized(Op("QUANTIZE", [0], [1]), Op("RELU", [1], [2]))
    graph.main.tensors[0].dtype, graph.main.tensors[0].quantization = "float32", None
    assert placements(graph) == ["xnnpack", "edgetpu"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "float32"}, "only 8-bit integers, this has float32"),
        ({"quantization": None}, "a tensor is not quantized"),
        ({"shape_signature": (-1, 8, 8, 4)}, "the shape is not fixed"),
        ({"shape": (2, 8, 8, 4)}, "more than 3 dimensions in use"),
    ],
)
def test_edge_tpu_wants_fixed_eight_bit_tensors(change: dict[str, object], reason: str) -> None:
    graph = quantized(Op("RELU", [0], [1]))
    for name, value in change.items():
        setattr(graph.main.tensors[0], name, value)
    assert reason in analyze(graph, load_target("coral-usb")).ops[0].reason


def test_edge_tpu_wants_one_scale_for_dense_weights() -> None:
    dense = Op("FULLY_CONNECTED", [0, 1], [2], make_options("FullyConnectedOptions"))
    graph = quantized(dense, shapes={0: (1, 8), 1: (4, 8), 2: (1, 4)}, constants=(1,))
    assert placements(graph) == ["edgetpu"]
    graph.main.tensors[1].quantization = Quantization(np.ones(4, np.float32), np.zeros(4, np.int64))
    assert "one per tensor" in analyze(graph, load_target("coral-usb")).ops[0].reason


def test_a_free_batch_can_be_fixed_for_the_edge_tpu(shared_data: Path) -> None:
    graph = Graph.read(shared_data / "models" / "mlperf_tiny" / "pretrainedResnet_quant.tflite")
    coral = load_target("coral-usb")
    assert analyze(graph, coral).delegates["edgetpu"].mapped_ops == 0
    assert graph.fix_shapes() > 0
    assert analyze(graph, coral).delegates["edgetpu"].mapped_ops == len(graph.main.ops)


def test_thirty_two_bit_arm_has_no_fast_eight_bit_kernels() -> None:
    graph = quantized(Op("TANH", [0], [1]))
    assert placements(graph, "rpi4") == ["xnnpack"]
    assert placements(graph, "generic-armv7") == ["cpu"]
