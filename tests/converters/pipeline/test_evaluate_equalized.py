"""A bundle whose layers were equalized is compared layer by layer with the float model that was equalized with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop import paths
from edgeloop.graph import Graph
from edgeloop_converters.api import convert
from edgeloop_converters.assess import evaluate
from edgeloop_converters.passes.links import links, scale_channels
from edgeloop_converters.result import ConvertResult
from support.tiny_models import RELU, TinyBuilder


def mobile_like(spread: float = 2.0) -> Graph:
    """Depthwise-separable, its channels of very different size."""
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 12, 12, 3)), 16, stride=2, activation=RELU)
    x = b.conv(b.depthwise(x, activation=RELU), 24, 1, activation=RELU)
    graph = b.finish(b.softmax(b.dense(b.mean(x), 6)))
    random = np.random.default_rng(1)
    for link in links(graph):
        scale_channels(graph, link, np.exp(random.normal(0, spread, link.channels)).astype(np.float32))
    return graph


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    coarse = random.random((120, 3, 3, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=np.kron(coarse, np.ones((1, 4, 4, 1), np.float32)))
    return tmp_path / "data.npz"


@pytest.fixture
def converted(tmp_path: Path, data: Path) -> ConvertResult:
    mobile_like().save(tmp_path / "mobile.tflite")
    result = convert(tmp_path / "mobile.tflite", data=data, scheme="int8")
    (equalization,) = [r for r in result.report["refinement"] if "equaliz" in r["name"]]
    assert equalization["accepted"], "this test needs a model that is equalized"
    result.bundle.save(tmp_path / "mobile.bundle")
    return result


def test_the_layers_errors_are_those_of_the_conversion(converted: ConvertResult, tmp_path: Path, data: Path) -> None:
    at_conversion = {e["name"]: e["snr_db"] for e in converted.report["per_op"]}
    found = {e.name: e.snr_db for e in evaluate(tmp_path / "mobile.bundle", data).per_op}
    assert found.keys() == at_conversion.keys()
    assert min(found.values()) > min(at_conversion.values()) - 6


def test_without_the_twin_there_are_no_errors_rather_than_wrong_ones(
    converted: ConvertResult, tmp_path: Path, data: Path
) -> None:
    twin = converted.report["provenance"]["twin_sha256_of"]["int8"]
    (paths.cache_dir() / "float" / f"{twin}.tflite").unlink()
    result = evaluate(tmp_path / "mobile.bundle", data)
    assert not result.per_op
    assert any("equalized" in note for note in result.notes)


def test_the_bare_file_is_recognized_by_its_weights(converted: ConvertResult, tmp_path: Path, data: Path) -> None:
    bare = tmp_path / "mobile_int8.tflite"
    bare.write_bytes(converted.variants[0].model)
    result = evaluate(bare, data, reference=tmp_path / "mobile.tflite")
    assert not result.per_op
    assert any("equalized" in note for note in result.notes)


def test_a_file_that_was_not_equalized_is_compared_layer_by_layer(tmp_path: Path, data: Path) -> None:
    mobile_like(spread=0.0).save(tmp_path / "mobile.tflite")
    for scheme in ("int8-compact", "clustered"):
        made = convert(tmp_path / "mobile.tflite", data=data, scheme=scheme, effort="fast")
        (tmp_path / "bare.tflite").write_bytes(made.variants[0].model)
        assert evaluate(tmp_path / "bare.tflite", data, reference=tmp_path / "mobile.tflite").per_op
