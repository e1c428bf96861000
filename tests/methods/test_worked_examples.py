"""The worked examples of docs/methods.md, from Keras and PyTorch to a smaller graph. Weights are random: shown is
the arithmetic; accuracies after compression are in docs/benchmarks.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes import optimize_graph, prune
from edgeloop_converters.passes.pruning import plan_prune
from support.torch_zoo import needs_torch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the frontends' own start takes minutes on a loaded machine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
NETS = re.search(r"```python\n(# nets\.py\n.*?)```", PAGE, re.DOTALL)


def from_torch(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Graph:
    """A function of the page's nets.py, converted as a user does it."""
    assert NETS is not None
    (folder / "nets.py").write_text(NETS.group(1))
    monkeypatch.chdir(folder)
    return Graph.read(to_float_tflite(Path(f"nets:{name}")).tflite)


def from_keras(folder: Path, model: object) -> Graph:
    model.save(folder / "model.keras")  # type: ignore[attr-defined]
    return Graph.read(to_float_tflite(folder / "model.keras").tflite)


def ops(graph: Graph) -> list[str]:
    return [op.name for op in graph.main.ops]


def weights(graph: Graph) -> list[np.ndarray]:
    """Of the layers, in order, [out, ..., in]."""
    found = [graph.constant(op, 1) for op in graph.main.ops if op.name in ("CONV_2D", "FULLY_CONNECTED")]
    return [np.asarray(tensor.data) for tensor in found if tensor is not None]


def answers(graph: Graph) -> np.ndarray:
    random = np.random.default_rng(0)
    with open_session(graph.write(), delegate="cpu") as session:
        return session.run(random.random(graph.inputs[0].shape).astype(np.float32))[0]


def said(report: object) -> tuple[float, float, float]:
    """What the page says of a report: MACs, bytes and memory after, as shares of those before."""
    before, after = report.before, report.after  # type: ignore[attr-defined]
    return tuple(after[name] / before[name] for name in ("macs", "bytes", "peak_memory_bytes"))  # type: ignore[return-value]


@pytest.mark.parametrize("torch", [pytest.param("digits_cnn", marks=needs_torch)])
def test_a_cnn_of_1_32_64_128_10_is_pruned_from_pytorch(
    torch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = from_torch(tmp_path, monkeypatch, torch)
    assert [w.shape[::3] for w in weights(graph)[:3]] == [(32, 1), (64, 32), (128, 64)]
    half, report = prune(graph, amount=0.5)
    assert [w.shape[::3] for w in weights(half)[:3]] == [(16, 1), (32, 16), (64, 32)]
    assert weights(half)[3].shape == (10, 64)
    assert report.before["macs"] == 7_452_416 and report.after["macs"] == 1_919_872
    assert said(report) == pytest.approx((0.26, 0.25, 0.50), abs=0.01)

    norms = np.linalg.norm(weights(graph)[0].reshape(32, -1), axis=1)
    theta = float(np.median(norms))
    plan = plan_prune(graph, threshold=theta, score="l2")
    assert list(plan.groups[0].kept) == np.flatnonzero(norms > theta).tolist()


@pytest.mark.parametrize("torch", [pytest.param("residual_blocks", marks=needs_torch)])
def test_residual_blocks_are_fused_into_one_kernel_each(
    torch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = from_torch(tmp_path, monkeypatch, torch)
    assert ops(graph).count("CONV_2D") == 8 and len(ops(graph)) == 26
    fused, report = optimize_graph(graph)
    assert ops(fused) == ["PAD", "CONV_2D", "CONV_2D", "PAD", "CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert {w.shape[1:3] for w in weights(fused)[:4]} == {(3, 3)}
    assert said(report) == pytest.approx((0.90, 0.89, 0.57), abs=0.01)
    assert np.allclose(answers(fused), answers(graph), atol=1e-4 * np.abs(answers(graph)).max())


@pytest.mark.tensorflow
def test_a_conv_conv_fc_graph_is_folded_from_keras(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(16, 3), layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(10)]
    )
    graph = from_keras(tmp_path, model)
    assert ops(graph) == ["CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    folded, report = optimize_graph(graph)
    assert ops(folded) == ["RESHAPE", "FULLY_CONNECTED"]
    assert (report.before["macs"], report.after["macs"]) == (84_032, 640)
    assert said(report)[1] < 0.1 and said(report)[2] < 0.2
    assert np.allclose(answers(folded), answers(graph), atol=1e-5)


def vgg16_of_keras() -> object:
    import keras

    keras.utils.set_random_seed(0)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    x = keras.layers.Flatten()(base.output)
    for _ in range(2):
        x = keras.layers.Dense(512, activation="relu")(x)
    return keras.Model(base.input, keras.layers.Dense(10)(x))


@pytest.mark.parametrize(
    "framework", [pytest.param("keras", marks=pytest.mark.tensorflow), pytest.param("torch", marks=needs_torch)]
)
def test_vgg16_is_compressed_by_a_rate(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if framework == "keras":
        graph = from_keras(tmp_path, vgg16_of_keras())
    else:
        graph = from_torch(tmp_path, monkeypatch, "vgg16")
    assert [len(w) for w in weights(graph)][::4] == [64, 256, 512, 512]
    half, report = prune(graph, amount=0.5, tile=8)
    assert [len(w) for w in weights(half)] == [*(len(w) // 2 for w in weights(graph)[:-1]), 10]
    assert (report.before["macs"], report.after["macs"]) == (313_725_952, 78_875_136)
    assert said(report) == pytest.approx((0.25, 0.25, 0.50), abs=0.01)
    assert answers(half).shape == (1, 10)
