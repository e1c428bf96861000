"""A .tflite as the way in: float stays as it is, what only looks float is said, quantized is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Op, Quantization, Tensor
from edgeloop.runtime import open_session
from edgeloop_converters.evaluate.per_op import match_tensors
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.frontends.floats import normalize


def output(model: bytes) -> np.ndarray:
    x = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    with open_session(model) as session:
        return np.asarray(session.run(x)[0])


def weights(graph: Graph) -> list[tuple[int, Tensor]]:
    return [(i, t) for i, t in enumerate(graph.main.tensors) if t.data is not None and t.data.ndim >= 2]


def test_it_gains_a_signature_and_keeps_its_numbers(digits_tflite: Path) -> None:
    model = to_float_tflite(digits_tflite)
    graph = Graph.read(model.tflite)
    assert model.frontend == "tflite"
    assert model.notes == ()
    assert list(graph.signatures[0].inputs) == ["image"]
    assert np.array_equal(output(model.tflite), output(digits_tflite.read_bytes()))


def test_fused_names_of_a_converted_model_are_cut_and_the_outputs_of_ops_have_the_plain_ones(
    tmp_path: Path, digits_tflite: Path
) -> None:
    graph = Graph.read(digits_tflite)
    for index, tensor in enumerate(graph.main.tensors):
        part = index if tensor.data is None else graph.main.outputs[0]  # constants start like the op's output
        tensor.name = f"model/part_{part};model/{tensor.name};of which there are many"
    path = tmp_path / "fused.tflite"
    graph.save(path)
    short = Graph.read(normalize(path, path, inputs=["image"], outputs=["scores"])[0])
    names = [t.name for t in short.main.tensors]
    assert len(set(names)) == len(names)
    assert not any(";" in name for name in names)
    constants = {t.name for t in short.main.tensors if t.data is not None}
    assert all("_" not in name.removeprefix("model/part_") for name in set(names) - constants)
    assert len(match_tensors(graph, short)) == len(short.main.ops)
    assert Graph.read(normalize(path, path)[0]).main.tensors[0].name == graph.main.tensors[0].name


def test_weights_stored_as_float16_become_float32(tmp_path: Path, digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    new_ops = []
    for index, tensor in weights(graph):
        assert tensor.data is not None
        half = graph.main.add_tensor(Tensor(f"{tensor.name}_f16", tensor.shape, "float16", tensor.data.astype("f2")))
        tensor.data = None
        new_ops.append(Op("DEQUANTIZE", [half], [index]))
    graph.main.ops = new_ops + graph.main.ops
    path = tmp_path / "half.tflite"
    graph.save(path)
    model = to_float_tflite(path)
    assert "float16" in model.notes[0]
    assert all(op.name != "DEQUANTIZE" for op in Graph.read(model.tflite).main.ops)
    assert np.allclose(output(model.tflite), output(path.read_bytes()), atol=1e-5)


def test_dynamic_range_weights_become_float_and_this_is_said(tmp_path: Path, digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    _, tensor = weights(graph)[0]
    assert tensor.data is not None
    scale = np.abs(tensor.data).reshape(tensor.shape[0], -1).max(axis=1) / 127
    shape = (-1, *[1] * (tensor.data.ndim - 1))
    real = tensor.data
    tensor.data = np.round(real / scale.reshape(shape)).astype(np.int8)
    tensor.dtype = "int8"
    tensor.quantization = Quantization(scale.astype(np.float32), np.zeros(len(scale), np.int64))
    path = tmp_path / "hybrid.tflite"
    graph.save(path)
    model = to_float_tflite(path)
    assert "only looks float" in model.warnings[0]
    assert Graph.read(model.tflite).numeric_kind() == "float"
    widened = Graph.read(model.tflite).tensor_by_name(tensor.name).data
    assert widened is not None
    assert np.abs(widened - real).max() <= scale.max() / 2 + 1e-6


def test_an_int8_model_is_sent_back_for_the_float_one(shared_data: Path) -> None:
    folder = shared_data / "models" / "mlperf_tiny"
    for name in ("pretrainedResnet_quant.tflite", "kws_ref_model.tflite"):
        with pytest.raises(UsageError, match="quantized to int8 already") as caught:
            to_float_tflite(folder / name)
        assert "float model" in str(caught.value.hint)


def test_a_compiled_model_is_recognised(shared_data: Path) -> None:
    with pytest.raises(UsageError, match="compiled for the Edge TPU"):
        to_float_tflite(shared_data / "models" / "coral" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")


def test_another_batch_size_is_refused(tmp_path: Path, digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    tensor = graph.inputs[0]
    tensor.shape = (4, *tensor.shape[1:])
    path = tmp_path / "batch.tflite"
    graph.save(path)
    with pytest.raises(UsageError, match="takes a batch of 4"):
        to_float_tflite(path)


def test_the_large_resnet_and_the_hybrid_kws_come_in(shared_data: Path) -> None:
    folder = shared_data / "models" / "mlperf_tiny"
    assert to_float_tflite(folder / "pretrainedResnet_large_float.tflite").notes == ()
    assert "only looks float" in to_float_tflite(folder / "kws_ref_model_float32.tflite").warnings[0]
