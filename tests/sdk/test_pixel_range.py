"""A contract's scaling against what a quantized input holds."""

from __future__ import annotations

import pytest

from edgeloop.affine import Affine
from edgeloop.contract import InputSpec
from edgeloop.pixel_range import range_doubt


def picture(mean: tuple[float, ...], std: tuple[float, ...]) -> InputSpec:
    return InputSpec(kind="image", size=(8, 8), mean=mean, std=std)


@pytest.mark.parametrize(
    ("mean", "std", "affine", "dtype"),
    [
        ((0.0,), (1.0,), Affine(1.0, 0), "uint8"),
        ((127.5,), (127.5,), Affine(1 / 128, 128), "uint8"),
        ((0.0,), (255.0,), Affine(1 / 255, -128), "int8"),
        ((0.0,), (255.0,), Affine(0.7 / 255, -128), "int8"),  # dark samples calibrated it
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), Affine(4.76 / 255, -14), "int8"),
        ((0.0,), (1.0,), Affine(), "float32"),
    ],
)
def test_scalings_that_fit_are_silent(
    mean: tuple[float, ...], std: tuple[float, ...], affine: Affine, dtype: str
) -> None:
    assert range_doubt(picture(mean, std), affine, dtype) == ""


def test_pixels_that_would_be_clipped_or_vanish_are_told_with_what_fits() -> None:
    clipped = range_doubt(picture((0.0,), (1.0,)), Affine(1 / 128, 128), "uint8")
    assert "pixels 0..255, and the model's input holds -1..0.9922" in clipped
    assert "mean = 128 and std = 128" in clipped
    vanishing = range_doubt(picture((0.0,), (255.0,)), Affine(1.0, -128), "int8")
    assert "pixels 0..1, and the model's input holds 0..255" in vanishing
