"""Something that small models can learn within a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop_converters.passes.packed import run_real

Array = npt.NDArray[Any]


def blobs(
    count: int, *, classes: int = 3, features: int = 10, seed: int = 0, noise: float = 0.15
) -> tuple[Array, Array]:
    """Points around one center per class, in 0..1: float32 [count, features], and their classes, int64 [count]."""
    centers = np.where(np.arange(features) % classes == np.arange(classes)[:, None], 0.8, 0.2)
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    points = centers[labels] + random.normal(0, noise, (count, features))
    return np.clip(points, 0, 1).astype(np.float32), labels.astype(np.int64)


def pictures(count: int, *, classes: int = 4, size: int = 8, channels: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Noise with one bright quarter or half, which tells the class: float32 [count, size, size, channels] in 0..1."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    made = random.random((count, size, size, channels)) * 0.4
    for picture, label in zip(made, labels, strict=True):
        picture[..., label % channels] += 0.4 if label < channels else 0.0
    return made.astype(np.float32), labels.astype(np.int64)


def labels_of(model: bytes, samples: Array) -> Array:
    """The class a model gives each sample."""
    outputs = run_real(model, [(sample[None],) for sample in samples])[0]
    return np.asarray(outputs.reshape(len(samples), -1).argmax(axis=1))
