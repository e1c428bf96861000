"""Q(x) = round((x - min) / (max - min) * (2^n - 1)), and the affine form that edgeloop computes with.

With scale = (max - min) / (2^n - 1) and zero point = lowest code - min / scale the affine code is Q(x) + lowest code:
    round(x / scale) + zero point = round((x - min) / scale) + lowest code
whenever min / scale is a whole number, which the packer sees to by moving the range so that 0 has a code of its own.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.affine import Affine, dequantize, quantize
from edgeloop.graph import Graph
from edgeloop_converters.calibration import calibrate, model_inputs
from edgeloop_converters.data.dataset import IMAGE, Dataset
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.demo.loop import CONTRACT
from edgeloop_converters.evaluate.tensor_range import code_range
from edgeloop_converters.quantization import quantize_int8

DTYPES = {8: np.int8, 16: np.int16}


def linear(x: np.ndarray, low: float, high: float, bits: int) -> np.ndarray:
    """The formula as it stands in the literature, in float64; half away from zero, as the kernels round."""
    return np.floor((x.astype(np.float64) - low) / (high - low) * (2**bits - 1) + 0.5)


@st.composite
def ranges_with_zero(draw: st.DrawFn) -> tuple[Affine, int]:
    """(an affine whose range holds 0, bits): zero point anywhere, so min / scale is whole."""
    bits = draw(st.sampled_from([8, 16]))
    info = np.iinfo(DTYPES[bits])
    return Affine(draw(st.floats(1e-4, 1e3)), draw(st.integers(int(info.min), int(info.max)))), bits


@given(ranges_with_zero(), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_affine_code_is_the_formula_shifted_to_signed_codes(
    chosen: tuple[Affine, int], shares: list[float]
) -> None:
    affine, bits = chosen
    dtype = DTYPES[bits]
    limits = code_range(affine, dtype)
    assert limits is not None
    low, high = limits
    x = (low + np.array(shares) * (high - low)).astype(np.float32)
    codes = quantize(x, affine, dtype).astype(np.int64)
    expected = np.clip(linear(x, low, high, bits), 0, 2**bits - 1) + np.iinfo(dtype).min
    position = (x.astype(np.float64) - low) / affine.scale
    near_a_tie = np.abs(position - np.floor(position) - 0.5) < 1e-3 * 2 ** (bits - 8)
    assert (codes[~near_a_tie] == expected[~near_a_tie]).all()
    assert (np.abs(codes - expected) <= 1).all()


@given(ranges_with_zero(), st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_the_error_is_half_a_step_inside_the_range_and_saturates_outside(
    chosen: tuple[Affine, int], values: list[float]
) -> None:
    affine, bits = chosen
    limits = code_range(affine, DTYPES[bits])
    assert limits is not None
    x = np.array(values, np.float32)
    back = dequantize(quantize(x, affine, DTYPES[bits]), affine).astype(np.float64)
    inside = (x >= limits[0]) & (x <= limits[1])
    assert (np.abs(back - x)[inside] <= affine.scale * (0.5 + 1e-4 * 2 ** (bits - 8)) + 1e-6 * np.abs(x[inside])).all()
    assert np.allclose(back[x > limits[1]], limits[1], rtol=1e-5)
    assert np.allclose(back[x < limits[0]], limits[0], rtol=1e-5)


@given(ranges_with_zero())
def test_zero_is_exact_so_that_padding_is(chosen: tuple[Affine, int]) -> None:
    affine, bits = chosen
    assert dequantize(quantize(np.zeros(1), affine, DTYPES[bits]), affine)[0] == 0.0


def test_an_exported_file_has_these_scales_and_zero_points(digits_tflite: Path) -> None:
    """scale = (max - min) / 255 with the range widened to hold 0, zero point = round(-128 - min / scale)."""
    model = digits_tflite.read_bytes()
    images = load_split().train_images
    data = Dataset(IMAGE, "digits", 32, lambda i: images[i], None)
    ranges = calibrate(model, model_inputs(CONTRACT, model, data, range(32)), method="min-max")
    graph = Graph.read(quantize_int8(model, ranges).tflite)
    checked = 0
    for op in graph.main.ops:
        tensor = graph.main.tensors[op.outputs[0]]
        if op.name in ("SOFTMAX", "RESHAPE", "MAX_POOL_2D") or tensor.name not in ranges.tensors:
            continue  # a softmax has 1 / 256 by definition; the others keep their input's
        low, high = min(0.0, ranges.tensors[tensor.name][0]), max(0.0, ranges.tensors[tensor.name][1])
        assert tensor.affine.scale == pytest.approx((high - low) / 255, rel=1e-3)
        assert abs(tensor.affine.zero_point - (-128 - low / tensor.affine.scale)) <= 0.5 + 1e-3
        checked += 1
    assert checked >= 4


@pytest.mark.parametrize("bits", [8, 16])
def test_the_mean_square_error_is_a_twelfth_of_the_squared_step(bits: int) -> None:
    """Bennett 1948, for values that do not favor any place within a step: 8 more bits are 256 times less error."""
    dtype = DTYPES[bits]
    affine = Affine(8.0 / (2**bits - 1), int(np.iinfo(dtype).min) // 2)
    limits = code_range(affine, dtype)
    assert limits is not None
    x = np.random.default_rng(0).uniform(*limits, 20_000).astype(np.float32)
    error = dequantize(quantize(x, affine, dtype), affine).astype(np.float64) - x
    assert math.sqrt(np.square(error).mean()) == pytest.approx(affine.scale / math.sqrt(12), rel=0.03)
