"""Reading a model and writing it back loses nothing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop.graph import Graph
from support.interpreting import run
from support.structure import shared_constants, structure
from support.tiny_models import tiny_cnn, tiny_residual, tiny_two_inputs
from support.whole_schema import while_loop, whole_schema

CANNOT_RUN = ("_edgetpu.tflite", "model_invoking_error.tflite")
REAL_MODELS = (
    "coral/deeplabv3_mnv2_dm05_pascal_quant",
    "coral/deeplabv3_mnv2_dm05_pascal_quant_edgetpu",
    "coral/keras_lstm_mnist_ptq",
    "coral/keras_lstm_mnist_ptq_edgetpu",
    "coral/mobilenet_v1_0.25_128_quant",
    "coral/mobilenet_v1_0.25_128_quant_edgetpu",
    "coral/mobilenet_v2_1.0_224_quant",
    "coral/model_invoking_error",
    "coral/movenet_single_pose_lightning_ptq",
    "coral/movenet_single_pose_lightning_ptq_edgetpu",
    "coral/tf2_mobilenet_v2_1.0_224_ptq",
    "mlperf_tiny/kws_ref_model",
    "mlperf_tiny/kws_ref_model_float32",
    "mlperf_tiny/pretrainedResnet",
    "mlperf_tiny/pretrainedResnet_large_float",
    "mlperf_tiny/pretrainedResnet_large_int8",
    "mlperf_tiny/pretrainedResnet_quant",
)


def assert_same_structure(before: bytes, after: bytes) -> None:
    assert structure(after) == structure(before)
    assert shared_constants(after) == shared_constants(before)


def assert_no_growth(before: bytes, after: bytes) -> None:
    """But for constants moved to the 16-byte borders that the schema asks for."""
    constants = sum(t.data is not None for s in Graph.read(before).subgraphs for t in s.tensors)
    assert len(after) <= len(before) + 16 * (constants + 1)


def test_every_real_model_is_listed_here(shared_data: Path) -> None:
    found = {str(p.relative_to(shared_data / "models"))[:-7] for p in (shared_data / "models").rglob("*.tflite")}
    assert found == set(REAL_MODELS)


@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_model_comes_back_the_same(shared_data: Path, name: str) -> None:
    path = shared_data / "models" / f"{name}.tflite"
    before = path.read_bytes()
    after = Graph.read(path).write()
    assert_same_structure(before, after)
    assert_no_growth(before, after)
    if path.name.endswith(CANNOT_RUN):
        return
    for seed in (0, 1):
        for expected, result in zip(run(before, seed), run(after, seed), strict=True):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("model", [tiny_cnn(), tiny_residual(), tiny_two_inputs(), while_loop()])
def test_built_model_comes_back_byte_for_byte(model: bytes) -> None:
    assert Graph.read(model).write() == model


def test_digits_model_comes_back_with_the_same_answers(digits_tflite: Path) -> None:
    before = digits_tflite.read_bytes()
    after = Graph.read(before).write()
    assert_same_structure(before, after)
    np.testing.assert_array_equal(run(after)[0], run(before)[0])


@pytest.mark.parametrize("outside", [False, True])
def test_every_part_of_the_schema_survives(outside: bool) -> None:
    """`outside`: constants and custom options behind the flatbuffer, named by offset and size."""
    before = whole_schema(outside=outside)
    graph = Graph.read(before)
    assert not graph.not_carried
    after = graph.write()
    assert_same_structure(before, after)
    assert Graph.read(after).write() == after


def test_while_loop_with_its_subgraphs_runs_as_before() -> None:
    model = while_loop()
    graph = Graph.read(model)
    assert [s.name for s in graph.subgraphs] == ["main", "condition", "body"]
    assert run(graph.write(), inputs=[np.array([3.0], np.float32)])[0].tolist() == [12.0]


def test_label_file_behind_the_flatbuffer_moves_along() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("labels.txt", "cat\ndog\n")
        writer.writestr("more/vocab.txt", "a")
    graph = Graph.read(tiny_cnn() + archive.getvalue())
    assert graph.associated_files() == {"labels.txt": b"cat\ndog\n", "more/vocab.txt": b"a"}
    graph.description = "a longer description moves everything behind it by some bytes"
    with zipfile.ZipFile(io.BytesIO(graph.write())) as reader:
        assert reader.testzip() is None
        assert reader.read("labels.txt") == b"cat\ndog\n"
        assert reader.infolist()[0].header_offset > len(tiny_cnn())


def test_unknown_bytes_behind_the_flatbuffer_are_kept() -> None:
    assert Graph.read(tiny_cnn() + b"signed by somebody").write().endswith(b"signed by somebody")


def test_constants_lie_on_the_borders_the_schema_asks_for() -> None:
    model = tiny_cnn()
    for tensor in Graph.read(model).main.tensors:
        if tensor.data is not None:
            assert model.find(tensor.data.tobytes()) % 16 == 0


@pytest.mark.tensorflow
def test_tensorflow_model_with_a_loop_and_two_signatures(tmp_path: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([4], tf.float32)])
        def doubled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x * 2.0}

        @tf.function(input_signature=[tf.TensorSpec([4], tf.float32)])
        def grown(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            step = lambda v: tf.matmul(v, tf.ones([4, 4]) * 0.5) + 1.0  # noqa: E731
            rows = tf.while_loop(lambda v: tf.reduce_sum(v) < 100.0, lambda v: (step(v),), [x[None]])
            return {"y": rows[0]}

    model = Model()
    signatures = {"doubled": model.doubled, "grown": model.grown}
    tf.saved_model.save(model, str(tmp_path), signatures=signatures)
    before = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=list(signatures)).convert()
    graph = Graph.read(before)
    assert {s.key for s in graph.signatures} == {"doubled", "grown"}
    assert any(op.name == "WHILE" for s in graph.subgraphs for op in s.ops)
    after = graph.write()
    assert_same_structure(before, after)
    from ai_edge_litert.interpreter import Interpreter

    x = np.arange(4, dtype=np.float32)
    for key in signatures:
        expected, result = (Interpreter(model_content=m).get_signature_runner(key)(x=x)["y"] for m in (before, after))
        np.testing.assert_array_equal(result, expected)
