"""Preprocessing: compiled table against the plain float formula, resizing, bad frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.affine import Affine, dequantize, quantize
from edgeloop.contract import InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.preprocess import compile_input, resize
from edgeloop.preprocess.pictures import scaled


@dataclass(frozen=True)
class FakeInput:
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: Affine = Affine()
    name: str = "image"
    index_range: tuple[int, int] | None = None


INT8_RAW = FakeInput((1, 6, 5, 3), np.dtype(np.int8), Affine(1.0, -128))
INT8_UNIT = FakeInput((1, 6, 5, 3), np.dtype(np.int8), Affine(1 / 255, -128))
UINT8 = FakeInput((1, 6, 5, 3), np.dtype(np.uint8), Affine(1 / 128, 128))
FLOAT = FakeInput((1, 6, 5, 3), np.dtype(np.float32))
INT16 = FakeInput((1, 6, 5, 3), np.dtype(np.int16), Affine(1 / 32768, 0))
SCALINGS = [((0.0,), (1.0,)), ((0.0,), (255.0,)), ((127.5,), (127.5,)), ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]


@pytest.mark.parametrize("tensor", [INT8_RAW, INT8_UNIT, UINT8, FLOAT, INT16], ids=lambda t: f"{t.dtype}")
@pytest.mark.parametrize(("mean", "std"), SCALINGS)
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_equals_scaling_in_float_and_then_quantizing(tensor, mean, std, color):
    frame = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    spec = InputSpec(kind="image", size=(6, 5), color=color, mean=mean, std=std)
    ordered = frame[..., ::-1] if color == "rgb" else frame
    values = (ordered.astype(np.float32) - np.float32(mean)) / np.float32(std)
    expected = quantize(values, tensor.affine, tensor.dtype)
    np.testing.assert_array_equal(compile_input(spec, tensor)(frame)[0], expected)


def test_the_buffer_is_reused_so_that_no_frame_allocates():
    run = compile_input(InputSpec(kind="image", size=(6, 5)), INT8_RAW)
    frame = np.zeros((6, 5, 3), np.uint8)
    assert run(frame) is run(frame)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3), (9, 9, 4), (3, 20, 3)])
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_takes_gray_color_and_alpha_frames_of_any_size(shape, color):
    tensor = FakeInput((1, 6, 5, 1 if color == "gray" else 3), np.dtype(np.int8), Affine(1.0, -128))
    out = compile_input(InputSpec(kind="image", size=(6, 5), color=color), tensor)(np.full(shape, 7, np.uint8))
    assert out.shape == tensor.shape
    assert (out == 7 - 128).all()


def test_letterbox_keeps_the_whole_picture_between_gray_bars():
    out = resize(np.full((10, 20, 3), 255, np.uint8), 20, 20, "letterbox")
    assert (out[:5] == 114).all()
    assert (out[5:15] == 255).all()
    assert (out[15:] == 114).all()


def test_crop_takes_the_centered_square():
    frame = np.zeros((10, 30, 3), np.uint8)
    frame[:, 10:20] = 255
    assert (resize(frame, 10, 10, "crop") == 255).all()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((6, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((6, 5, 2), np.uint8),
        np.zeros((1, 6, 5, 3), np.uint8),
    ],
)
def test_a_frame_that_is_not_a_picture_is_a_data_error(frame):
    with pytest.raises(DataError):
        compile_input(InputSpec(kind="image", size=(6, 5)), INT8_RAW)(frame)


def test_a_contract_that_does_not_fit_the_model_is_said_before_any_frame():
    with pytest.raises(ConfigError, match=r"\[1, 8, 8, 3\].*\[1, 6, 5, 3\]"):
        compile_input(InputSpec(kind="image", size=(8, 8)), INT8_RAW)


def test_a_tensor_gets_its_missing_unit_axis_and_the_contract_scaling():
    tensor = FakeInput((1, 49, 10, 1), np.dtype(np.int8), Affine(0.5847, 83))
    spec = InputSpec(kind="tensor", mean=(83.0,), std=(1 / 0.5847,))
    codes = np.random.default_rng(0).integers(-128, 128, (49, 10)).astype(np.int8)
    np.testing.assert_array_equal(compile_input(spec, tensor)(codes)[0, ..., 0], codes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad):
    frame = np.zeros((4,), np.float32)
    frame[2] = bad
    run = compile_input(InputSpec(), FakeInput((1, 4), np.dtype(np.float32)))
    with pytest.raises(DataError, match="NaN"):
        run(frame)


def test_token_ids_go_in_unchanged():
    run = compile_input(InputSpec(), FakeInput((1, 3), np.dtype(np.int32)))
    np.testing.assert_array_equal(run(np.array([5, 1, 9], np.int32)), [[5, 1, 9]])


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    st.floats(0.01, 2.0),
    st.integers(-128, 127),
)
def test_quantizing_errs_by_at_most_half_a_step_inside_the_range(values, scale, zero_point):
    affine = Affine(scale, zero_point)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    inside = np.clip(np.asarray(values, np.float32), low, high)
    back = dequantize(quantize(inside, affine, np.int8), affine)
    assert np.abs(back - inside).max() <= scale * 0.501 + 1e-4


@pytest.mark.parametrize("key", ["mean", "std"])
def test_scaling_of_a_tensor_is_one_number_or_one_per_channel(key):
    tensor = FakeInput((1, 6, 5, 3), np.dtype(np.float32))
    for numbers in ((2.0,), (1.0, 2.0, 3.0)):
        compile_input(InputSpec(shape=(6, 5, 3), **{key: numbers}), tensor)
    with pytest.raises(ConfigError, match=f"{key} needs 1 or 3 numbers, got 2"):
        compile_input(InputSpec(shape=(6, 5, 3), **{key: (1.0, 2.0)}), tensor)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_an_index_outside_the_table_is_bad_data(dtype):
    run = compile_input(InputSpec(shape=(3,)), FakeInput((1, 3), np.dtype(np.int32), name="ids", index_range=(0, 49)))
    assert run(np.array([0, 49, 7], dtype)).tolist() == [[0, 49, 7]]
    for wrong in (50, -1):
        with pytest.raises(DataError, match=r"'ids' chooses rows of a table, 0\.\.49, got"):
            run(np.array([3, wrong, 7], dtype))


@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from(["stretch", "letterbox", "crop"]),
    st.sampled_from([INT8_RAW, INT8_UNIT, UINT8, FLOAT, INT16]), st.sampled_from(SCALINGS), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_size_and_format_is_resizing_and_then_scaling(height, width, how, tensor, scaling, seed):
    """Two pictures of different sizes through one preprocessor: nothing of the first is left in the second."""
    mean, std = scaling
    run = compile_input(InputSpec(kind="image", size=(6, 5), mean=mean, std=std, resize=how), tensor)
    generator = np.random.default_rng(seed)
    for shape in ((31, 17, 3), (height, width, 3)):
        frame = generator.integers(0, 256, shape).astype(np.uint8)
        values = (resize(frame, 6, 5, how)[..., ::-1].astype(np.float32) - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(run(frame)[0], quantize(values, tensor.affine, tensor.dtype))


def test_what_opencv_has_no_table_for_is_looked_up_all_the_same():
    half = FakeInput((1, 6, 5, 3), np.dtype(np.float16))
    frame = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    out = compile_input(InputSpec(kind="image", size=(6, 5), std=(255.0,)), half)(frame)
    np.testing.assert_allclose(out[0], frame[..., ::-1] / 255, atol=1e-3)


@pytest.mark.parametrize("view", [lambda f: f[..., ::-1], lambda f: f[::-1, ::2], lambda f: f.transpose(1, 0, 2)])
def test_views_of_a_picture_are_pictures(view):
    frame = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    run = compile_input(InputSpec(kind="image", size=(6, 5)), UINT8)
    np.testing.assert_array_equal(run(view(frame)).copy(), run(np.ascontiguousarray(view(frame))))


@pytest.mark.parametrize(("shape", "size"), [((480, 640), (224, 224)), ((93, 77), (32, 32)), ((720, 1280), (96, 96))])
def test_a_smaller_picture_skips_no_pixel_and_keeps_the_mean(shape, size):
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, shape).astype(np.uint8)
    assert abs(float(scaled(picture, *size).mean()) - float(picture.mean())) < 0.5
    for x in generator.integers(0, shape[1], 40):
        line = np.zeros(shape, np.uint8)
        line[:, x] = 255
        assert scaled(line, *size).max() > 0
