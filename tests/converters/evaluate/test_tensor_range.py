"""What a tensor holds against what its codes can say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import Affine
from edgeloop_converters.calibration import calibrate, model_inputs
from edgeloop_converters.data.dataset import IMAGE, Dataset
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.demo.loop import CONTRACT
from edgeloop_converters.evaluate import compare_tensors
from edgeloop_converters.evaluate.tensor_range import RangeCount, code_range
from edgeloop_converters.quantization import quantize_int8


@pytest.fixture(scope="module")
def digits() -> Dataset:
    split = load_split()
    return Dataset(IMAGE, "digits", 200, lambda i: split.held_out_images[i], split.held_out_labels[:200])


def test_the_range_of_codes_is_in_real_units() -> None:
    assert code_range(Affine(0.5, -128), np.int8) == (0.0, 127.5)
    assert code_range(Affine(0.1, 0), np.int16) == pytest.approx((-3276.8, 3276.7))
    assert code_range(Affine(), np.int8) is None
    assert code_range(Affine(0.5, 0), np.float32) is None


def test_values_further_than_half_a_step_outside_are_clipped() -> None:
    counted = RangeCount.of(3, "CONV_2D", "t", Affine(1.0, -128), np.int8)  # 0 .. 255
    assert counted is not None and counted.result() is None
    counted.add(np.array([[-0.4, 0.0], [255.4, 300.0]], np.float32))
    counted.add(np.array([np.nan, -9.0, 1.0, 2.0, 3.0], np.float32))
    result = counted.result()
    assert result is not None
    assert (result.float_min, result.float_max) == (-9.0, 300.0)
    assert (result.quantized_min, result.quantized_max) == (0.0, 255.0)
    assert result.clipped == 2 / 8


def test_every_quantized_tensor_has_its_range_and_a_narrow_one_is_seen(digits: Dataset, digits_tflite: Path) -> None:
    model = digits_tflite.read_bytes()
    samples = [array.copy() for (array,) in model_inputs(CONTRACT, model, digits, range(40))]
    true = calibrate(model, samples, method="min-max")
    narrow = next(iter(name for name in true.tensors if name not in ("image", "digit")))
    low, high = true.tensors[narrow]
    forced = {**true.tensors, narrow: (low, high / 4)}
    exported = quantize_int8(model, type(true)(forced, 40)).tflite
    found = compare_tensors(model, exported, CONTRACT, digits, range(16))
    assert found.ranges[0].name == "INPUT"
    assert found.ranges[0].index is None
    assert found.ranges[0].quantized_max == pytest.approx(1.0, abs=0.01)
    by_tensor = {r.tensor: r for r in found.ranges}
    assert {e.output for e in found.errors} <= set(by_tensor)
    assert by_tensor[narrow].quantized_max < 0.5 * by_tensor[narrow].float_max
    assert by_tensor[narrow].clipped > 0.001
    assert found.ranges[0].clipped == 0
