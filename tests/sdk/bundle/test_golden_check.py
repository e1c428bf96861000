"""The self-test: passes on another kernel set's rounding, fails where something else is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeloop.bundle import Golden, check_golden, make_golden
from edgeloop.bundle.golden_run import OTHER_KERNELS, XNNPACK_KERNELS, allowed_outside, compare, raw_sample
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DataError, RefusedError
from edgeloop.runtime import open_session

DIGITS = Contract(
    (InputSpec(kind="image", size=(8, 8), color="gray", std=(16.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)


@pytest.fixture(scope="module")
def frames():
    from sklearn.datasets import load_digits

    return [image.astype(np.uint8) for image in load_digits().images[:64]]


@pytest.fixture(scope="module")
def golden(digits_tflite, frames):
    return make_golden(DIGITS, frames, {"float": digits_tflite})


def test_both_kernel_sets_have_their_answers_and_both_pass(digits_tflite, golden):
    assert golden.n == 8
    assert set(golden.outputs["float"]) == {XNNPACK_KERNELS, OTHER_KERNELS} == set(golden.tolerance_steps)
    for delegate in ("xnnpack", "cpu"):
        with open_session(digits_tflite, delegate=delegate) as session:
            found = check_golden(session, DIGITS, golden, "float")
        assert found.passed
        assert found.n == 8
        assert found.worst_steps == 0
        assert found.reason == ""


def test_samples_are_of_many_classes_and_keep_the_frames_values(golden, frames):
    answers = golden.outputs["float"][XNNPACK_KERNELS][0]
    assert len(set(answers.argmax(axis=1))) >= 5
    kept = {sample.tobytes() for sample in golden.inputs[""]}
    assert kept <= {frame.tobytes() for frame in frames}
    assert golden.inputs[""].dtype == np.uint8
    assert golden.inputs[""].shape == (8, 8, 8, 1)


def test_something_else_than_the_model_fails_and_names_a_class(digits_tflite, golden):
    with open_session(digits_tflite) as session:
        upside_down = replace(golden, inputs={"": golden.inputs[""][:, ::-1]})
        found = check_golden(session, DIGITS, upside_down, "float")
        assert not found.passed
        assert "change class" in found.reason
        half_as_bright = replace(DIGITS, inputs=(replace(DIGITS.inputs[0], std=(48.0,)),))
        assert not check_golden(session, half_as_bright, golden, "float").passed


def test_answers_of_another_family_are_judged_with_the_wide_tolerance(digits_tflite, golden):
    outputs = {"float": {OTHER_KERNELS: golden.outputs["float"][OTHER_KERNELS]}}
    only_other = Golden(golden.inputs, outputs, {XNNPACK_KERNELS: 0.0, OTHER_KERNELS: 9.0})
    with open_session(digits_tflite) as session:
        found = check_golden(session, DIGITS, only_other, "float")
    assert found.passed
    assert found.tolerance_steps == 9.0


def test_golden_samples_that_do_not_fit_are_refused_or_data_errors(digits_tflite, golden):
    with open_session(digits_tflite) as session:
        with pytest.raises(RefusedError, match="variant int8"):
            check_golden(session, DIGITS, golden, "int8")
        with pytest.raises(DataError):
            check_golden(
                session, DIGITS, replace(golden, inputs={"a": golden.inputs[""], "b": golden.inputs[""]}), "float"
            )
        cut = {"float": {XNNPACK_KERNELS: [golden.outputs["float"][XNNPACK_KERNELS][0][:, :7]]}}
        found = check_golden(session, DIGITS, replace(golden, outputs=cut), "float")
        assert not found.passed
        assert "shapes" in found.reason


def test_color_images_are_kept_in_the_contracts_order_and_run_in_it():
    frame = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    rgb = raw_sample(InputSpec(kind="image", size=(4, 4), color="rgb"), frame)
    bgr = raw_sample(InputSpec(kind="image", size=(4, 4), color="bgr"), frame)
    assert np.array_equal(rgb, frame[..., ::-1])
    assert np.array_equal(bgr, frame)


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_a_kept_sample_goes_into_the_model_as_its_frame_did(color):
    from edgeloop.affine import Affine
    from edgeloop.bundle.golden_run import _frames_of
    from edgeloop.preprocess import compile_input
    from edgeloop.runtime import TensorInfo

    spec = InputSpec(kind="image", size=(6, 5), color=color, mean=(3.0,), std=(2.0,), resize="letterbox")
    info = TensorInfo("x", 0, (1, *spec.sample_shape), np.dtype(np.float32), Affine())
    frame = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    prepare = compile_input(spec, info)
    direct = prepare(frame).copy()
    assert np.array_equal(prepare(_frames_of(spec)(raw_sample(spec, frame))), direct)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float64, "float32"),
        (np.float16, "float32"),
        (bool, "uint8"),
        (np.int8, "int8"),
        (np.uint32, "int64"),
        (np.int32, "int32"),
    ],
)
def test_numbers_are_kept_in_types_that_golden_npz_has(given, kept):
    assert raw_sample(InputSpec(shape=(2,)), np.ones(2, given)).dtype == kept


def test_no_frames_or_frames_of_two_shapes_are_data_errors(digits_tflite):
    tensor = Contract((InputSpec(shape=(8, 8, 1)),), OutputSpec("classification"))
    with pytest.raises(DataError, match="no frame"):
        make_golden(tensor, [], {"float": digits_tflite})
    with pytest.raises(DataError, match="different shapes"):
        make_golden(tensor, [np.zeros((8, 8)), np.zeros((8, 8, 1))], {"float": digits_tflite})


def test_one_sample_in_eight_may_lie_outside_but_no_clear_class_may_change():
    assert [allowed_outside(n) for n in (1, 3, 4, 8, 15, 16)] == [0, 0, 1, 1, 1, 2]
    want = np.array([[10.0, 0.0], [1.0, 0.0]], np.float32)
    have = np.array([[0.0, 10.0], [0.0, 1.0]], np.float32)
    found = compare([want], [have], [1.0], 2.0, classes=0)
    assert found.wrong_class == (0,)  # the second led by less than twice the tolerance
    assert found.steps.tolist() == [10.0, 1.0]
    nothing = compare([want], [want], [1.0], 2.0, classes=0)
    assert nothing.wrong_class == ()
    broken = np.full_like(want, np.nan)
    assert np.isinf(compare([want], [broken], [1.0], 2.0, classes=0).steps).all()


def test_real_int8_models_agree_with_themselves_and_fail_with_swapped_colors(shared_data):
    model = shared_data / "models/coral/mobilenet_v1_0.25_128_quant.tflite"
    contract = Contract(
        (InputSpec(kind="image", size=(128, 128), mean=(128.0,), std=(128.0,)),), OutputSpec("classification")
    )
    import cv2

    pictures = [cv2.imread(str(p)) for p in sorted((shared_data / "images/imagenet_sample").glob("*.JPEG"))[:16]]
    golden = make_golden(contract, pictures, {"uint8": model})
    swapped = replace(golden, inputs={"": golden.inputs[""][..., ::-1]})
    for delegate in ("xnnpack", "cpu"):
        with open_session(model, delegate=delegate) as session:
            assert check_golden(session, contract, golden, "uint8").passed
            assert not check_golden(session, contract, swapped, "uint8").passed


def test_a_large_output_is_kept_at_evenly_spread_values():
    from edgeloop.bundle.golden_run import thinned
    from edgeloop.bundle.limits import GOLDEN_VALUES

    small = np.zeros((3, 5))
    assert thinned(small) is small
    large = np.arange(GOLDEN_VALUES * 2 + 5).reshape(1, -1, 1)
    kept = thinned(large)
    assert kept.shape == (GOLDEN_VALUES,)
    assert (np.diff(kept) >= 2).all()
    assert kept[0] == 0
    assert kept[-1] > large.size - 5


def test_golden_samples_take_a_share_of_the_model_but_never_none():
    from edgeloop.bundle.golden_maker import _affordable

    small, large = np.zeros((32, 100), np.uint8), np.zeros((2, 1 << 21), np.uint8)
    assert _affordable([small], 100_000, 8) == 8
    assert _affordable([small], 100, 8) == 4
    assert _affordable([large], 100_000, 8) == 1
    assert _affordable([small[:3]], 100_000, 8) == 3


def test_maps_of_class_ids_are_compared_by_the_share_that_differs():
    from edgeloop.bundle.golden_run import LABELS

    want = np.zeros((2, 100), np.float32)
    have = want.copy()
    have[0, :10] = 17
    found = compare([want], [have], [LABELS], 2.0)
    assert found.steps.tolist() == pytest.approx([25.5, 0.0])
