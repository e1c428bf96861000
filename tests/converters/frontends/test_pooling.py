"""Padding of max pooling by minus infinity, as PyTorch writes it, becomes numbers that int8 can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.graph import Graph, make_options
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends.floats import normalize
from edgeloop_converters.quantization import quantize_int8
from support.tiny_models import NONE, RELU, TinyBuilder

VALID = 1


def pooled(kernel: int, pads: tuple[int, int], *, stride: int = 2, activation: int = NONE, size: int = 9) -> bytes:
    """Convolution, padding by -inf above/left and below/right, max pooling."""
    b = TinyBuilder(3)
    x = b.conv(b.input("x", (1, size, size, 2)), 4, activation=activation)
    padding = b.constant("pads", np.array([[0, 0], pads, pads, [0, 0]], np.int32))
    full = size + sum(pads)
    lowest = b.constant("lowest", np.array(-np.inf, np.float32))
    padded = b.op("PADV2", [x, padding, lowest], (1, full, full, 4))
    options = make_options(
        "Pool2DOptions", padding=VALID, strideH=stride, strideW=stride, filterHeight=kernel, filterWidth=kernel,
        fusedActivationFunction=NONE,
    )  # fmt: skip
    out = (full - kernel) // stride + 1
    return b.finish(b.op("MAX_POOL_2D", [padded], (1, out, out, 4), options)).write()


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    with open_session(model, delegate="cpu") as session:
        return np.asarray(session.run(x)[0])


@pytest.mark.parametrize(
    "kernel, pads, stride, activation, op",
    [(3, (1, 1), 2, NONE, "MIRROR_PAD"), (2, (1, 0), 1, NONE, "MIRROR_PAD"), (5, (2, 2), 3, NONE, "MIRROR_PAD"),
     (3, (1, 1), 2, RELU, "PAD")],
)  # fmt: skip
def test_the_numbers_stay_the_same(kernel: int, pads: tuple[int, int], stride: int, activation: int, op: str) -> None:
    before = pooled(kernel, pads, stride=stride, activation=activation)
    after = normalize(before, Path("m.tflite")).tflite
    assert op in {o.name for o in Graph.read(after).main.ops}
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((1, 9, 9, 2)).astype(np.float32)
        assert np.array_equal(run(before, x), run(after, x))


def test_it_ends_in_int8() -> None:
    model = normalize(pooled(3, (1, 1)), Path("m.tflite")).tflite
    samples = [np.random.default_rng(i).standard_normal((1, 9, 9, 2)).astype(np.float32) for i in range(8)]
    assert quantize_int8(model, calibrate(model, samples)).float_ops == ()


def test_copies_that_would_lie_outside_the_window_are_not_made() -> None:
    model = normalize(pooled(2, (2, 2)), Path("m.tflite")).tflite
    assert "PADV2" in {o.name for o in Graph.read(model).main.ops}
