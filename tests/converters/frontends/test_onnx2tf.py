"""onnx2tf, in an environment of its own: what is said where it is missing, and what it makes where it is there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DeviceError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import ConversionOptions, onnx2tf_env, to_float_tflite
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from support.onnx_zoo import conv_weights, write_onnx
from support.torch_zoo import needs_torch

_MARKS = [
    *needs_torch,
    pytest.mark.skipif(importlib.util.find_spec("onnx2torch") is None, reason="ONNX is missing: scripts/setup --torch"),
]


def needs_onnx(test: Callable[..., None]) -> Callable[..., None]:
    for mark in _MARKS:
        test = mark(test)
    return test


ENGINE = os.environ.get("EDGELOOP_TEST_ONNX2TF", "")
"""The folder of an environment that `convert --install-engine` has set up: a test does not fetch 2.6 GB."""


def odd(path: Path) -> Path:
    """Conv, then ops that onnx2torch does not know."""
    from onnx import helper

    constants = {"w": conv_weights(), "v": np.random.default_rng(1).standard_normal((16, 5)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("ThresholdedRelu", ["c"], ["t"], name="odd/relu", alpha=0.5),
        helper.make_node("SpaceToDepth", ["t"], ["s"], name="to depth", blocksize=2),
        helper.make_node("GlobalMaxPool", ["s"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    return write_onnx(path, nodes, shape=("N", 3, 8, 8), constants=constants)


@needs_onnx
def test_where_onnx2torch_stops_the_way_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"SpaceToDepth \(node 'to depth'\), GlobalMaxPool") as caught:
        to_float_tflite(odd(tmp_path / "odd.onnx"))
    assert "--onnx-engine onnx2tf --install-engine" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no converter for ThresholdedRelu") as caught:
        to_float_tflite(tmp_path / "odd.onnx", ConversionOptions(onnx_engine="onnx2torch"))
    assert "onnx2tf" not in str(caught.value.hint)


def test_one_command_sets_it_up_in_the_cache(edgeloop_home: Path) -> None:
    with pytest.raises(UsageError, match="not set up on this host") as caught:
        onnx2tf_env.check_ready()
    command = str(caught.value.hint)
    assert str(edgeloop_home / "cache" / "engines") in command
    assert "-m venv" in command and f"pip install onnx2tf=={onnx2tf_env.VERSION}" in command


@pytest.mark.slow
def test_half_an_installation_does_not_count_and_pip_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(DeviceError, match=r"could not be set up: ERROR: .*onnx2tf") as caught:
        onnx2tf_env.install()
    assert "-m venv" in str(caught.value.hint)
    assert onnx2tf_env.env_python().exists() and not onnx2tf_env.is_ready()


def test_the_engine_is_part_of_the_recipe() -> None:
    recipe = Recipe("m.onnx", data="d", onnx_engine="onnx2tf")
    assert parse_recipe(recipe.to_toml()).onnx_engine == "onnx2tf"
    with pytest.raises(UsageError, match="'tf2onnx' is not known"):
        Recipe("m.onnx", onnx_engine="tf2onnx")


@pytest.fixture
def ready(edgeloop_home: Path) -> Iterator[None]:
    if not ENGINE:
        pytest.skip("set EDGELOOP_TEST_ONNX2TF to the folder of an environment with onnx2tf")
    folder = onnx2tf_env.env_folder()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(ENGINE)
    yield


@pytest.mark.slow
@needs_onnx
def test_it_takes_over_and_computes_what_onnx_says(tmp_path: Path, ready: None) -> None:
    from onnx.reference import ReferenceEvaluator

    path = odd(tmp_path / "odd.onnx")
    before = path.read_bytes()
    model = to_float_tflite(path)
    assert path.read_bytes() == before
    assert model.notes[0].startswith("onnx2tf took over") and "onnxruntime's" in model.notes[2]
    assert model.versions["onnx2tf"] == onnx2tf_env.VERSION and "tensorflow" in model.versions
    graph = Graph.read(model.tflite)
    assert graph.inputs[0].shape == (1, 8, 8, 3)
    assert (list(graph.signatures[0].inputs), list(graph.signatures[0].outputs)) == (["x"], ["y"])
    x = np.random.default_rng(2).random((1, 3, 8, 8), np.float32)
    wanted = np.asarray(ReferenceEvaluator(str(path)).run(None, {"x": x})[0])
    with open_session(model.tflite) as session:
        ours = session.run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))[0]
    assert np.abs(ours - wanted).max() < 1e-4


@pytest.mark.slow
@needs_onnx
def test_what_it_cannot_do_either_is_one_line_with_the_op(tmp_path: Path, ready: None) -> None:
    from onnx import helper

    nodes = [helper.make_node("Magic", ["x"], ["y"], name="my_magic", domain="com.acme")]
    path = write_onnx(tmp_path / "magic.onnx", nodes, domains=["com.acme"])
    with pytest.raises(UsageError, match="onnx2tf cannot convert it") as caught:
        to_float_tflite(path, ConversionOptions(onnx_engine="onnx2tf"))
    assert "\n" not in caught.value.message and "Magic" in caught.value.message
