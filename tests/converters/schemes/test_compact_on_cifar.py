"""int8-compact on real data: what the smaller download saves is not paid in accuracy."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.packed import run_real
from edgeloop_converters.schemes import SCHEMES
from edgeloop_converters.schemes.job import Job
from support.cifar import extract

pytestmark = pytest.mark.slow


def pictures(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB 0..255 as float32 [n, 1, 32, 32, 3], and the classes in alphabetical order."""
    paths = sorted(folder.glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[None] for path in paths]
    return np.stack(images).astype(np.float32), np.array([names.index(path.parent.name) for path in paths])


def test_resnet8_keeps_its_accuracy_at_two_thirds_of_the_compressed_size(shared_data: Path, tmp_path: Path) -> None:
    model = to_float_tflite(shared_data / "models" / "mlperf_tiny" / "pretrainedResnet.tflite").tflite
    calibration, _ = pictures(extract(shared_data / "cifar10" / "train.tar.gz", tmp_path, 10))
    test, classes = pictures(extract(shared_data / "cifar10" / "test.tar.gz", tmp_path, 500))

    def samples() -> Iterator[tuple[np.ndarray, ...]]:
        return ((image,) for image in calibration)

    job = Job(model, calibrate(model, list(calibration)), samples, len(calibration))
    made = {}
    for name in ("int8", "int8-compact"):
        load = SCHEMES[name].load
        assert load is not None
        made[name] = load()(job).tflite

    def accuracy(file: bytes) -> float:
        outputs = run_real(file, ((image,) for image in test))[0]
        return float((outputs.reshape(len(test), -1).argmax(axis=1) == classes).mean())

    compact = accuracy(made["int8-compact"])
    assert accuracy(model) - compact <= 0.007
    assert accuracy(made["int8"]) - compact <= 0.007
    assert len(lzma.compress(made["int8-compact"])) <= 0.65 * len(lzma.compress(made["int8"]))
