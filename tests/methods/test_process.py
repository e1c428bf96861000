"""Calibration -> quantization -> fine-tuning: three steps, each of which uses what the one before gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.graph import Graph
from edgeloop_converters.calibration import Ranges, calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.objective import OutputError
from edgeloop_converters.passes.refine import refine
from edgeloop_converters.quantization import quantize_int8

Samples = list[tuple[np.ndarray]]


def scans(images: np.ndarray) -> Samples:
    return [((image[None, ..., None] / 255).astype(np.float32),) for image in images]


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


@pytest.fixture(scope="module")
def samples() -> Samples:
    return scans(load_split().train_images[:100])


@pytest.fixture(scope="module")
def ranges(model: bytes, samples: Samples) -> Ranges:
    return calibrate(model, samples, method="min-max")


def test_calibration_gives_a_range_to_every_activation(model: bytes, ranges: Ranges, samples: Samples) -> None:
    assert ranges.samples == 100
    low, high = ranges.tensors["image"]
    assert low == 0.0 and high == max(float(s[0].max()) for s in samples)
    assert all(low <= high for low, high in ranges.tensors.values())


def test_quantization_takes_the_ranges_and_fine_tuning_lowers_the_error(
    model: bytes, ranges: Ranges, samples: Samples
) -> None:
    """Fine-tuning here is of constants, on unlabelled calibration samples: activation ranges (range search), weight
    rounding with second-order feedback, biases. Training by gradients is not part of edgeloop yet.
    """
    packed = quantize_int8(model, ranges).tflite
    refined = refine(model, packed, ranges, samples)
    assert any(report.accepted for report in refined.refinement.reports)
    unseen = OutputError(model, scans(load_split().held_out_images[:200]), visible_only=True)
    assert unseen.of_graph(Graph.read(refined.tflite)) < unseen.of_graph(Graph.read(packed))
    assert len(refined.tflite) == pytest.approx(len(packed), rel=0.01)
