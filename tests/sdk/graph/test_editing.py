"""Graphs as values: constants, quantization, names, signatures, copies, and mistakes in edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import Affine
from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Quantization, Subgraph, Tensor, make_options
from support.interpreting import interpreter, run
from support.structure import shared_constants
from support.tiny_models import NONE, TinyBuilder, tiny_cnn, tiny_cnn_graph
from support.whole_schema import whole_schema


def test_changed_weights_change_the_answer_as_expected() -> None:
    graph = Graph.read(tiny_cnn())
    dense = next(op for op in graph.main.ops if op.name == "FULLY_CONNECTED")
    weights, bias = graph.constant(dense, 1), graph.constant(dense, 2)
    assert weights is not None and weights.data is not None and bias is not None
    weights.data = np.zeros_like(weights.data)
    bias.data = np.array([0, 0, 50, 0], np.float32)
    assert run(graph.write())[0].round(3).tolist() == [[0, 0, 1, 0]]


def test_constants_from_a_file_cannot_be_changed_in_place() -> None:
    weights = Graph.read(tiny_cnn()).tensor_by_name("conv_0/weights")
    assert weights.data is not None
    with pytest.raises(ValueError, match="read-only"):
        weights.data[...] = 0


def test_packed_and_unusual_types_are_held_as_documented() -> None:
    main = Graph.read(whole_schema(outside=False)).main
    held = {t.name: (t.data.tolist(), str(t.data.dtype), t.raw) for t in main.tensors if t.data is not None}
    assert held["int4"] == ([1, 2, -1], "int8", False)
    assert held["int2"] == ([0, 1, -2, -1, -1], "int8", False)
    assert held["bfloat16"] == ([0x3F80, 0x4000], "uint16", False)
    assert held["bool"] == ([True, False, True], "bool", False)
    assert held["text"][1:] == ("uint8", True)
    assert held["sparse"][1:] == ("uint8", True)
    assert held["does not fit"][1:] == ("uint8", True)
    assert held["no elements"] == ([], "int32", False)
    assert "state" not in held and main.tensor_by_name("state").is_variable


def test_int4_written_with_an_odd_count() -> None:
    graph = tiny_cnn_graph()
    codes = np.array([-8, 7, -1], np.int8)
    graph.main.add_tensor(Tensor("four bits", (3,), "int4", codes, Quantization.per_tensor(0.5)))
    again = Graph.read(graph.write()).tensor_by_name("four bits")
    assert again.data is not None and again.data.tolist() == [-8, 7, -1]
    assert again.byte_count == 2


def test_constants_of_one_buffer_stay_shared_until_one_is_replaced() -> None:
    graph = tiny_cnn_graph()
    values = np.arange(100, dtype=np.float32)
    for name in ("a", "b", "c"):
        graph.main.add_tensor(Tensor(name, (100,), data=values))
    graph.main.add_tensor(Tensor("equal, but another", (100,), data=values.copy()))
    shared = graph.write()
    assert [len(group) for group in shared_constants(shared)] == [3]
    again = Graph.read(shared)
    changed = again.tensor_by_name("b")
    assert changed.data is not None
    changed.data = changed.data + 1
    assert [len(group) for group in shared_constants(again.write())] == [2]


def test_copy_is_independent_and_shares_the_weights() -> None:
    graph = Graph.read(tiny_cnn())
    before = graph.write()
    twin = graph.copy()
    assert twin.tensor_by_name("conv_0/weights").data is graph.tensor_by_name("conv_0/weights").data
    twin.main.ops[0].options.strideH = 1
    twin.main.tensors[0].name = "renamed"
    twin.signatures.clear()
    assert graph.write() == before


def test_finding_things() -> None:
    graph = tiny_cnn_graph()
    main = graph.main
    image, conv = main.index_of("image"), main.index_of("conv_2d_0")
    assert graph.producers()[conv] == 0
    assert image not in graph.producers()
    assert graph.consumers()[image] == [0]
    assert graph.consumers()[conv] == [1]
    assert main.constant(main.index_of("conv_0/bias")) is not None
    assert main.constant(-1) is None and main.constant(image) is None
    with pytest.raises(KeyError):
        graph.tensor_by_name("nowhere")


def test_content_hash_is_of_the_content() -> None:
    graph = Graph.read(tiny_cnn())
    assert graph.content_hash() == Graph.read(graph.write()).content_hash()
    other = graph.copy()
    other.tensor_by_name("conv_0/bias").data = np.zeros(8, np.float32)
    assert other.content_hash() != graph.content_hash()


def test_quantization_of_a_tensor() -> None:
    assert Tensor("x", (1,)).affine == Affine()
    assert Tensor("x", (1,), quantization=Quantization()).is_quantized is False
    q = Tensor("x", (1,), "int8", quantization=Quantization.per_tensor(0.5, -3))
    assert q.affine == Affine(0.5, -3) and q.is_quantized and not q.is_per_channel
    channels = Quantization(np.array([1, 2], np.float32), np.zeros(2, np.int64), dimension=3)
    per_channel = Tensor("w", (2,), "int8", quantization=channels)
    assert per_channel.is_per_channel and per_channel.affine == Affine()


@pytest.mark.parametrize(
    ("tensor_names", "arguments"),
    [
        (["serving_default_image:0"], ["image"]),
        (["StatefulPartitionedCall:0"], ["input_0"]),
        (["a;b;c"], ["input_0"]),
        (["", "x"], ["input_0", "x"]),
        (["x", "x", "x_1"], ["x", "x_2", "x_1"]),
        (["block/conv 1", "\udcff"], ["block/conv_1", "input_1"]),
    ],
)
def test_added_signature_has_sensible_unique_names(tensor_names: list[str], arguments: list[str]) -> None:
    main = Subgraph("main", [Tensor(n, (1,)) for n in tensor_names], [*range(len(tensor_names))], [0], [])
    graph = Graph([main])
    signature = graph.ensure_signature()
    assert signature.key == "serving_default"
    assert list(signature.inputs) == arguments
    assert list(signature.inputs.values()) == main.inputs


def test_added_signature_works_in_the_runtime(digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    assert not graph.signatures
    signature = graph.ensure_signature()
    assert graph.ensure_signature() is signature and graph.signatures == [signature]
    runner = interpreter(graph.write()).get_signature_runner("serving_default")
    (name,) = signature.inputs
    (scores,) = runner(**{name: np.zeros((1, 8, 8, 1), np.float32)}).values()
    assert scores.shape == (1, 10)


def test_unique_names() -> None:
    graph = Graph([Subgraph("main", [Tensor(n, (1,)) for n in ("", "x", "x", "x_1", "y")], [0], [4], [])])
    assert graph.ensure_unique_names() == 2
    assert [t.name for t in graph.main.tensors] == ["tensor_0", "x", "x_2", "x_1", "y"]
    assert graph.ensure_unique_names() == 0


def test_save_replaces_the_file_whole(tmp_path: Path) -> None:
    graph = tiny_cnn_graph()
    graph.save(tmp_path / "m.tflite")
    assert Graph.read(tmp_path / "m.tflite").content_hash() == graph.content_hash()
    assert [p.name for p in tmp_path.glob("*.tflite*")] == ["m.tflite"]
    with pytest.raises(UsageError, match="cannot write"):
        graph.save(tmp_path / "no" / "m.tflite")


def wrong_dtype(graph: Graph) -> None:
    graph.tensor_by_name("conv_0/bias").data = np.zeros(8)


def wrong_size(graph: Graph) -> None:
    graph.tensor_by_name("conv_0/bias").data = np.zeros(7, np.float32)


def wrong_type(graph: Graph) -> None:
    graph.tensor_by_name("image").dtype = "float"


def wrong_index(graph: Graph) -> None:
    graph.main.ops[0].inputs[0] = 99


def wrong_op(graph: Graph) -> None:
    graph.main.ops[0].name = "Conv2D"


def wrong_signature(graph: Graph) -> None:
    graph.signatures[0].inputs["image"] = -1


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (wrong_dtype, "'conv_0/bias' is float32, its data are float64"),
        (wrong_size, r"shape \[8\], its data \[7\]"),
        (wrong_type, "no element type"),
        (wrong_index, r"op 0 \(CONV_2D\) names tensor 99"),
        (wrong_op, "'Conv2D' is no TFLite operator"),
        (wrong_signature, "'image' names tensor -1"),
    ],
)
def test_a_mistake_in_an_edit_is_named_when_writing(edit: object, says: str) -> None:
    graph = tiny_cnn_graph()
    assert callable(edit)
    edit(graph)
    with pytest.raises(UsageError, match=says):
        graph.write()


def test_options_are_checked_by_name() -> None:
    with pytest.raises(AttributeError, match="strideX"):
        make_options("Conv2DOptions", strideX=1)


def hybrid() -> Graph:
    graph = tiny_cnn_graph()
    weights = graph.tensor_by_name("dense_3/weights")
    weights.dtype, weights.data = "int8", np.ones(weights.shape, np.int8)
    weights.quantization = Quantization.per_tensor(0.01)
    return graph


def float16_weights() -> Graph:
    b = TinyBuilder(0)
    x = b.input("x", (1, 4))
    half = b.constant("half", np.ones((1, 4), np.float16))
    return b.finish(b.add(x, b.op("DEQUANTIZE", [half], (1, 4), make_options("DequantizeOptions")), activation=NONE))


def quantized(dtype: str, *, float_tail: bool = False) -> Graph:
    graph = Graph([Subgraph("main", [], [0], [3], [])])
    q = Quantization.per_tensor(0.1)
    graph.main.tensors = [Tensor("x", (4,)), *[Tensor(n, (4,), dtype, quantization=q) for n in "ab"], Tensor("y", (4,))]
    graph.main.ops = [Op("QUANTIZE", [0], [1]), Op("RELU", [1], [2]), Op("DEQUANTIZE", [2], [3])]
    if float_tail:
        graph.main.tensors.append(Tensor("z", (4,)))
        graph.main.ops.append(Op("TANH", [3], [4]))
    return graph


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (tiny_cnn_graph(), "float"),
        (hybrid(), "hybrid"),
        (float16_weights(), "float16"),
        (quantized("int8"), "int8"),
        (quantized("uint8"), "uint8"),
        (quantized("int16"), "int16"),
        (quantized("int8", float_tail=True), "mixed"),
        (Graph([Subgraph("main", [], [], [], [Op("edgetpu-custom-op", [], [], custom=True)])]), "compiled"),
    ],
)
def test_numeric_kind(graph: Graph, kind: str) -> None:
    assert graph.numeric_kind() == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mlperf_tiny/pretrainedResnet", "float"),
        ("mlperf_tiny/kws_ref_model_float32", "hybrid"),
        ("mlperf_tiny/kws_ref_model", "int8"),
        ("mlperf_tiny/pretrainedResnet_quant", "int8"),
        ("coral/keras_lstm_mnist_ptq", "int8"),
        ("coral/mobilenet_v2_1.0_224_quant", "uint8"),
        ("coral/mobilenet_v1_0.25_128_quant_edgetpu", "compiled"),
    ],
)
def test_numeric_kind_of_real_models(shared_data: Path, name: str, kind: str) -> None:
    assert Graph.read(shared_data / "models" / f"{name}.tflite").numeric_kind() == kind


def test_the_example_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).resolve().parents[3] / "docs" / "graph.md"
    example = guide.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "model.tflite").write_bytes(tiny_cnn())
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(guide), "exec"), {})  # noqa: S102 - the guide's own text
    edited = Graph.read(tmp_path / "edited.tflite").tensor_by_name("dense_3/bias")
    assert edited.data is not None and not edited.data.any()
