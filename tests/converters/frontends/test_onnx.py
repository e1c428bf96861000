"""ONNX as the way in: what is not supported is named, what is computes the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import ConversionOptions, detect, to_float_tflite
from support.onnx_zoo import conv_weights, write_onnx
from support.torch_zoo import needs_torch

pytestmark = [
    *needs_torch,
    pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="ONNX is missing: scripts/setup --torch"),
]


def node(kind: str, inputs: list[str], outputs: list[str], **more: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, **more)


def network(path: Path, name: str = "conv", **more: Any) -> Path:
    """Conv (its bias behind an Identity, as torch.onnx writes equal weights), ReLU, global average, Flatten, Gemm."""
    constants = {
        "w": conv_weights(),
        "b": np.linspace(-1, 1, 4).astype(np.float32),
        "v": np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32),
    }
    nodes = [
        node("Identity", ["b"], ["bias"]),
        node("Conv", ["x", "w", "bias"], ["c"], name=name, pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "v"], ["y"]),
    ]
    return write_onnx(path, nodes, constants=constants, **more)


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    """ONNX's own evaluator; x channels-first."""
    from onnx.reference import ReferenceEvaluator

    return np.asarray(ReferenceEvaluator(str(path)).run(None, {"x": x})[0])


def test_a_network_with_a_free_batch_computes_what_onnx_says(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", shape=("N", 3, 8, 8))
    assert detect(path) == "onnx"
    model = to_float_tflite(path)
    graph = Graph.read(model.tflite)
    assert graph.inputs[0].shape == (1, 8, 8, 3)
    assert "TRANSPOSE" not in {op.name for op in graph.main.ops}
    assert (list(graph.signatures[0].inputs), list(graph.signatures[0].outputs)) == (["x"], ["y"])
    assert any("ONNX's reference" in note for note in model.notes)
    assert set(model.versions) == {"torch", "litert-torch", "onnx"}
    x = np.random.default_rng(2).random((1, 3, 8, 8), np.float32)
    with open_session(model.tflite) as session:
        ours = session.run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))[0]
    assert np.abs(ours - reference(path, x)).max() < 1e-5


def test_a_free_size_is_settled_by_the_shape(tmp_path: Path) -> None:
    path = network(tmp_path / "net.onnx", shape=("N", 3, "H", "W"))
    with pytest.raises(UsageError, match=r"'x' has no fixed shape \(1, 3, \?, \?\)") as caught:
        to_float_tflite(path)
    assert "--shape" in str(caught.value.hint)
    model = to_float_tflite(path, ConversionOptions(shape=(3, 16, 12)))
    assert Graph.read(model.tflite).inputs[0].shape == (1, 16, 12, 3)


def test_names_in_the_file_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touched = tmp_path / "touched"
    name = f'a"), __import__("os").system("touch {touched}"), ("'
    to_float_tflite(network(tmp_path / "evil.onnx", name=name))
    assert not touched.exists()


def test_an_opset_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "new.onnx", [node("Relu", ["x"], ["y"])], opset=99)
    with pytest.raises(UsageError, match="ONNX opset 99 is not known here") as caught:
        to_float_tflite(path)
    assert "opset_version=17" in str(caught.value.hint)


def test_all_ops_without_a_converter_are_named(tmp_path: Path) -> None:
    nodes = [
        node("Det", ["x"], ["d"], name="my_det"),
        node("Magic", ["d"], ["y"], name="my_magic", domain="com.acme"),
    ]
    path = write_onnx(tmp_path / "odd.onnx", nodes, domains=["com.acme"])
    with pytest.raises(UsageError) as caught:
        to_float_tflite(path)
    assert "Det (node 'my_det'), com.acme.Magic (node 'my_magic'), opset 17" in caught.value.message
    assert "no operator of ONNX: com.acme.Magic;" in str(caught.value.hint)
    assert "onnx2tf" not in str(caught.value.hint), "2.6 GB that would not help"


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = network(tmp_path / "net.onnx").read_bytes()
    for i, content in enumerate((whole[: len(whole) // 2], b"\x08\x08" + b"junk" * 20, b"\x08\x08")):
        path = tmp_path / f"bad{i}.onnx"
        path.write_bytes(content)
        with pytest.raises(RefusedError):
            to_float_tflite(path)
