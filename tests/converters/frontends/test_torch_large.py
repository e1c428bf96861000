"""A real ResNet-18 and a small transformer from PyTorch to int8, with the memory it takes."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

import edgeloop
from edgeloop.affine import dequantize, quantize
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.quantization import quantize_int8
from support.torch_zoo import needs_torch, write_models

pytestmark = [*needs_torch, pytest.mark.slow]

GIB = 1 << 30


def signal_to_noise_db(model: bytes, int8: bytes, samples: list[np.ndarray]) -> float:
    ratios = []
    with open_session(model) as before, open_session(int8) as after:
        for x in samples:
            info = after.inputs[0]
            wanted = before.run(x)[0]
            codes = quantize(x, info.affine, np.dtype(np.int8)) if x.dtype == np.float32 else x
            got = dequantize(after.run(codes)[0], after.outputs[0].affine)
            ratios.append(10 * np.log10(float((wanted**2).mean()) / float(((wanted - got) ** 2).mean())))
    return float(np.mean(ratios))


def test_resnet18_ends_in_int8_within_the_memory_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    model = to_float_tflite(Path("my_models:resnet18"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak == before or peak < GIB + 11 * len(model.tflite)
    names = {op.name for op in Graph.read(model.tflite).main.ops}
    assert names == {"CONV_2D", "ADD", "PAD", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED"}
    rng = np.random.default_rng(0)
    samples = [rng.random((1, 224, 224, 3), np.float32) for _ in range(12)]
    done = quantize_int8(model.tflite, calibrate(model.tflite, samples[:8]))
    assert done.float_ops == ()
    assert len(done.tflite) < 0.27 * len(model.tflite)
    assert signal_to_noise_db(model.tflite, done.tflite, samples[8:]) > 25


def test_a_transformer_on_tokens_ends_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = to_float_tflite(Path("my_models:transformer"))
    assert "of PyTorch's" in model.notes[-1]
    assert Graph.read(model.tflite).inputs[0].dtype == "int32"
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 500, (1, 32)).astype(np.int32) for _ in range(40)]
    done = quantize_int8(model.tflite, calibrate(model.tflite, samples[:24]))
    assert set(done.float_ops) <= {"EMBEDDING_LOOKUP"}
    assert signal_to_noise_db(model.tflite, done.tflite, samples[24:]) > 20


def test_token_ids_from_an_npz_end_in_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.savez("tokens.npz", x=np.random.default_rng(0).integers(0, 500, (60, 32)).astype(np.int32))
    result = edgeloop.convert("my_models:transformer", data="tokens.npz", effort="fast")
    assert result.variants[0].quality.metrics.agreement > 0.9
    assert result.recipe.bundle_name == "transformer"
