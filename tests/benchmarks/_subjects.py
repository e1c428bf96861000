"""The models that conversions are compared on, and their data in two halves: to develop on, and to confirm once.

| | calibration samples come from | development | confirmation |
|---|---|---|---|
| ResNet8, larger ResNet | 5,000 train images | other train images | the test images |
| KWS | the first half of the 600 samples | the rest of that half | the second half |

600 keyword samples are few, so each half is there a second time: ten perturbed copies of every sample, shifted by up to
3 frames in time and with noise of 0.8 (the spread of the features is 8.9), on the grid that the features are stored on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _timing import shared_data, unpack_cifar

from edgeloop.affine import dequantize, quantize
from edgeloop.graph import Graph
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.passes.packed import run_real

Array = np.ndarray[Any, Any]

DEVELOPMENT, CONFIRMATION = "development", "confirmation"
_COPIES, _SHIFT, _NOISE = 10, 3, 0.8
_HALVES_SEED = 20240101
_TRAIN = 10_000


@dataclass(frozen=True)
class Samples:
    """inputs: float32 [n, ...]; classes: [n] true ones, or None for perturbed inputs."""

    inputs: Array
    classes: Array | None = None


@dataclass(frozen=True)
class Subject:
    """source: what TFLiteConverter starts from; model: the float .tflite of it; pool: for calibration.

    held: whether the tests are made of the pool's samples, copies in its order; those drawn are then left out.
    """

    name: str
    source: Path
    model: bytes
    pool: Array
    tests: dict[str, Samples]
    held: bool = False

    def draw(self, seed: int, count: int) -> tuple[list[Array], dict[str, Array]]:
        """(calibration samples [1, ...], for every test the indices that are not among them)."""
        drawn = np.random.default_rng(seed).permutation(len(self.pool))[:count]
        kept = {}
        for name, test in self.tests.items():
            indices = np.arange(len(test.inputs))
            kept[name] = indices[~np.isin(indices % len(self.pool), drawn)] if self.held else indices
        return [array[None] for array in self.pool[drawn]], kept


@contextmanager
def subjects(wanted: Sequence[str], split: str, images: int) -> Iterator[list[Subject]]:
    """In the order wanted: "resnet8", "large", "kws". images: how many pictures to judge by."""
    with tempfile.TemporaryDirectory() as scratch:
        pictures = _Pictures(Path(scratch), split, images)
        yield [_MAKERS[name](split, pictures) for name in wanted]


class _Pictures:
    """CIFAR-10 JPEGs, decoded when they are first asked for."""

    def __init__(self, scratch: Path, split: str, count: int) -> None:
        self._scratch, self._split, self._count = scratch, split, count
        self._made: tuple[Array, Samples] | None = None

    def get(self) -> tuple[Array, Samples]:
        """(pool, test)."""
        if self._made is None:
            train = _images(unpack_cifar(self._scratch, "train"), _TRAIN)
            order = np.random.default_rng(7).permutation(_TRAIN)
            pool, rest = order[: _TRAIN // 2], order[_TRAIN // 2 :][: self._count]
            assert train.classes is not None
            if self._split == DEVELOPMENT:
                test = Samples(train.inputs[rest], train.classes[rest])
            else:
                test = _images(unpack_cifar(self._scratch, "test"), self._count)
            self._made = train.inputs[pool], test
        return self._made


def _images(folder: Path, count: int) -> Samples:
    """RGB 0..255, the same number of every class; classes in alphabetical order, as the models' outputs."""
    import cv2

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    each = count // len(classes)
    paths = [path for c in classes for path in sorted(c.glob("*.jpg"))[:each]]
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return Samples(np.stack(pictures).astype(np.float32), np.repeat(np.arange(len(classes)), each))


def _resnet8(split: str, pictures: _Pictures) -> Subject:
    models = shared_data() / "models" / "mlperf_tiny"
    pool, test = pictures.get()
    model = to_float_tflite(models / "pretrainedResnet.tflite").tflite
    return Subject("ResNet8", models / "pretrainedResnet.h5", model, pool, {"images": test})


def _large(split: str, pictures: _Pictures) -> Subject:
    path = shared_data() / "models" / "mlperf_tiny" / "pretrainedResnet_large_float.tflite"
    pool, test = pictures.get()
    return Subject("larger ResNet", path, to_float_tflite(path).tflite, pool, {"images": test})


def _kws(split: str, pictures: _Pictures) -> Subject:
    models = shared_data() / "models" / "mlperf_tiny"
    affine = Graph.read(models / "kws_ref_model.tflite").inputs[0].affine
    with np.load(shared_data() / "kws" / "kws01.npz") as archive:
        features, classes = dequantize(archive["features"], affine)[..., None], archive["labels"].astype(int)
    order = np.random.default_rng(_HALVES_SEED).permutation(len(features))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    judged = first if split == DEVELOPMENT else second
    grid: Callable[[Array], Array] = lambda x: dequantize(quantize(x, affine, np.dtype(np.int8)), affine)  # noqa: E731
    tests = {
        "samples": Samples(features[judged], classes[judged]),
        "perturbed samples": Samples(_perturbed(features[judged], grid)),
    }
    source = models / "kws_ref_model"
    model = to_float_tflite(source).tflite
    return Subject("KWS", source, model, features[first], tests, held=split == DEVELOPMENT)


def _perturbed(features: Array, grid: Callable[[Array], Array]) -> Array:
    """Copies one after another, each in the order of `features`."""
    random, copies = np.random.default_rng(1), []
    for _ in range(_COPIES):
        shifts = random.integers(-_SHIFT, _SHIFT + 1, len(features))
        frames = np.clip(np.arange(features.shape[1])[None] - shifts[:, None], 0, features.shape[1] - 1)
        moved = np.take_along_axis(features, frames[:, :, None, None], axis=1)
        copies.append(grid(moved + random.normal(0, _NOISE, moved.shape)))
    return np.concatenate(copies).astype(np.float32)


_MAKERS: dict[str, Callable[[str, _Pictures], Subject]] = {"resnet8": _resnet8, "large": _large, "kws": _kws}
NAMES = tuple(_MAKERS)


def labels(model: bytes, inputs: Array) -> Array:
    """The class that the model gives each, [n]."""
    outputs = run_real(model, [(array[None],) for array in inputs])[0]
    return np.asarray(outputs.reshape(len(inputs), -1).argmax(axis=1))
