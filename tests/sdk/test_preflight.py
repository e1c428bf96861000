"""Borders, fit, suggestions and confirmations of a placement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.analysis import Confirmation, Preflight, analyze
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from edgeloop.runtime.taken import taken_ops
from edgeloop.targets import load_target
from support.edgetpu import compiled
from support.single_ops import CASES, build
from support.tiny_models import tiny_cnn

CORAL = load_target("coral-usb")


def graph_of(*ops: Op, dtypes: dict[int, str] | None = None, shape: tuple[int, ...] = (1, 8, 8, 4)) -> Graph:
    """int8 tensors 0, 1, ... as the ops name them; 0 is the input, the last one the output."""
    count = 1 + max(i for op in ops for i in (*op.inputs, *op.outputs))
    tensors = []
    for index in range(count):
        dtype = (dtypes or {}).get(index, "int8")
        tensors.append(
            Tensor(f"t{index}", shape, dtype, None, Quantization.per_tensor(0.1) if dtype == "int8" else None)
        )
    return Graph([Subgraph("main", tensors, [0], [count - 1], list(ops))])


def flight(graph: Graph, delegate: str = "edgetpu", target: str = "coral-usb") -> Preflight:
    return analyze(graph, load_target(target)).delegates[delegate].preflight


def texts(one: Preflight) -> str:
    return "\n".join(rewrite.text for rewrite in one.rewrites)


def test_borders_and_crossings_of_a_float_model_around_an_integer_core() -> None:
    graph = graph_of(
        Op("QUANTIZE", [0], [1]), Op("RELU", [1], [2]), Op("QUANTIZE", [2], [3]), Op("DEQUANTIZE", [3], [4]),
        dtypes={0: "float32", 4: "float32"},
    )  # fmt: skip
    borders = flight(graph).borders
    assert (borders.conversions, borders.requantizations, borders.partitions) == (2, 1, 1)
    assert (borders.crossings, borders.entering_bytes, borders.leaving_bytes) == (2, 256, 256)
    suggested = texts(flight(graph))
    assert "QUANTIZE: give the model int8 or uint8 inputs" in suggested
    assert "DEQUANTIZE: give the model int8 outputs" in suggested


def test_the_first_op_off_and_where_the_program_ends() -> None:
    graph = graph_of(
        Op("CAST", [0], [1]), Op("RELU", [1], [2]), Op("GELU", [2], [3]), Op("RELU", [3], [4]), dtypes={0: "float32"}
    )
    one = flight(graph)
    assert one.first_off is not None and (one.first_off.index, one.first_off.name) == (0, "CAST")
    assert one.ends_at is not None and (one.ends_at.index, one.ends_at.name) == (2, "GELU")
    assert flight(graph_of(Op("RELU", [0], [1]))).first_off is None


@pytest.mark.parametrize(
    ("op", "what"),
    [
        ("HARD_SWISH", "ReLU6"), ("LEAKY_RELU", "PReLU"), ("ARG_MAX", "decoder takes the largest"),
        ("DIV", "reciprocal"), ("SPLIT_V", "SPLIT"), ("UNPACK", "STRIDED_SLICE"), ("GELU", "sigmoid"),
    ],
)  # fmt: skip
def test_suggestions_for_ops_that_the_edge_tpu_does_not_have(op: str, what: str) -> None:
    suggested = texts(flight(graph_of(Op("RELU", [0], [1]), Op(op, [1], [2]))))
    assert suggested.startswith(f"{op}: ") and what in suggested


def test_a_dynamic_shape_is_made_static_by_the_flag_to_type() -> None:
    graph = graph_of(Op("RELU", [0], [1]))
    for tensor in graph.main.tensors:
        tensor.shape_signature = (-1, 8, 8, 4)
    assert "--shape 1,8,8,4" in texts(flight(graph))


def test_dense_weights_with_a_scale_per_channel_name_the_target_that_writes_one() -> None:
    graph = graph_of(Op("FULLY_CONNECTED", [0, 1], [2], make_options("FullyConnectedOptions")), shape=(1, 8))
    weights = graph.main.tensors[1]
    weights.shape, weights.data = (4, 8), np.zeros((4, 8), np.int8)
    weights.quantization = Quantization(np.ones(4, np.float32), np.zeros(4, np.int64))
    assert "FULLY_CONNECTED: one scale per tensor: convert with `--target coral-usb`" in texts(flight(graph))


def test_a_short_tail_is_to_be_cut_off() -> None:
    body = [Op("RELU", [i], [i + 1]) for i in range(10)]
    graph = graph_of(*body, Op("ABS", [10], [11]), Op("RELU", [11], [12]))
    assert "ABS: cut the model before op 10 and run what is behind it, 2 ops, on the host" in texts(flight(graph))
    early = graph_of(Op("RELU", [0], [1]), Op("ABS", [1], [2]), *[Op("RELU", [i], [i + 1]) for i in range(2, 9)])
    assert "cut" not in texts(flight(early))


def dense(units: int, inputs: int) -> Graph:
    graph = graph_of(Op("FULLY_CONNECTED", [0, 1], [2], make_options("FullyConnectedOptions")))
    first, weights, last = graph.main.tensors
    first.shape, last.shape, weights.shape = (1, inputs), (1, units), (units, inputs)
    weights.data = np.broadcast_to(np.int8(1), (units, inputs))
    return graph


@pytest.mark.parametrize(
    ("units", "inputs", "on_chip", "streamed"),
    [(256, 256, 66 << 10, 0), (2048, 2048, (4 << 20) + (16 << 10), 0), (4096, 4096, 7 << 20, 9 << 20)],
)
def test_parameters_beyond_the_chip_are_streamed(units: int, inputs: int, on_chip: int, streamed: int) -> None:
    """256x256: the compiler says 66.00KiB, too."""
    one = flight(dense(units, inputs))
    assert one.fit is not None and one.fit.sram_bytes == 8 << 20 and not one.fit.is_exact
    assert one.fit.on_chip_bytes == on_chip
    assert one.fit.streamed_bytes == pytest.approx(streamed, rel=0.01)
    assert ("do not fit on the chip" in texts(one)) == bool(streamed)


def test_a_compiled_file_says_its_sizes_itself() -> None:
    one = flight(Graph.read(compiled(tiny_cnn(), {4}, cached=123_456, streamed=789)))
    assert one.fit is not None and one.fit.is_exact
    assert (one.fit.on_chip_bytes, one.fit.streamed_bytes) == (123_456, 789)


def test_activations_larger_than_the_chip_are_a_warning() -> None:
    graph = graph_of(Op("RELU", [0], [1]), shape=(1, 1024, 1024, 8))
    assert "op 0 (RELU) has 16.0 MiB of activations" in flight(graph).warnings[0]
    assert flight(graph_of(Op("RELU", [0], [1]))).warnings == ()


def test_what_really_ran_outranks_the_prediction_and_differences_are_named() -> None:
    graph = graph_of(Op("RELU", [0], [1]), Op("ABS", [1], [2]), Op("TANH", [2], [3]))
    said = Confirmation(frozenset({1, 2}), "edgetpu_compiler 16.0", {0: "Operation not supported"})
    analysis = analyze(graph, CORAL, confirmed={"edgetpu": said})
    assert [op.placement for op in analysis.ops] == ["cpu", "edgetpu", "edgetpu"]
    assert analysis.ops[0].reason.startswith("not edgetpu: Operation not supported")
    plan = analysis.delegates["edgetpu"]
    assert (plan.status, plan.mapped_ops) == ("confirmed", 2)
    assert plan.preflight.disagreements == (
        "op 0 (RELU): predicted to be taken, edgetpu_compiler 16.0 left it",
        "op 1 (ABS): predicted off (the op is not in Coral's list), edgetpu_compiler 16.0 took it",
        "op 2 (TANH): predicted off (comes after op 1 (ABS), which it cannot take), edgetpu_compiler 16.0 took it",
    )
    assert analysis.delegates["xnnpack"].status == "predicted"


@pytest.mark.parametrize("number_format", ["int8", "float32"])
def test_the_runtime_tells_which_ops_xnnpack_takes(number_format: str) -> None:
    case = next(case for case in CASES if case.op == "SOFTMAX")
    graph = build(case, number_format)
    taken = taken_ops(graph.write())
    assert taken.ops == (frozenset({0}) if number_format == "float32" else frozenset())
    assert "litert" in taken.runtime
    confirmed = {"xnnpack": Confirmation(taken.ops, taken.runtime)}
    plan = analyze(graph, load_target("rpi4"), confirmed=confirmed).delegates["xnnpack"]
    assert plan.status == "confirmed" and plan.preflight.disagreements == ()


def test_a_model_that_the_runtime_refuses_is_one_line() -> None:
    from edgeloop.errors import DelegateError

    with pytest.raises(DelegateError) as caught:
        taken_ops(b"\x1c\0\0\0TFL3" + bytes(100))
    assert "\n" not in caught.value.message


def test_suggestions_for_xnnpack() -> None:
    graph = graph_of(Op("AVERAGE_POOL_2D", [0], [1]), Op("HARD_SWISH", [1], [2]), Op("RELU", [2], [3]))
    suggested = texts(flight(graph, "xnnpack", "rpi4"))
    for what in (
        "AVERAGE_POOL_2D: average the whole map",
        "HARD_SWISH: use x * sigmoid(x)",
        "RELU: put the activation",
    ):
        assert what in suggested


def test_no_op_is_asked_to_change_for_one_before_it(shared_data: Path) -> None:
    graph = Graph.read(shared_data / "models" / "coral" / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    one = flight(graph)
    assert one.ends_at is not None and one.ends_at.index == 64
    assert {i for rewrite in one.rewrites for i in rewrite.ops} == {64, 70, 71}


def test_one_row_of_many_boxes_is_a_warning() -> None:
    graph = graph_of(Op("RELU", [0], [1]), Op("LOGISTIC", [1], [2]), shape=(1, 12804, 91))
    assert flight(graph).warnings == (
        "op 1 (LOGISTIC) makes [1, 12804, 91] in one row: the compiler may leave it, or give up",
    )
    assert flight(graph_of(Op("LOGISTIC", [0], [1]), shape=(1, 1917, 91))).warnings == ()
