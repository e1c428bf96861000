"""What tells one training's data from another's, for a checkpoint to be refused where they differ."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from edgeloop.progress import Progress
from edgeloop_converters.trainable.augmenting import Augment, augmented
from edgeloop_converters.trainable.data import TrainingData

_SAMPLES = 8


def data_fingerprint(data: TrainingData, augment: Augment | None, progress: Progress) -> str:
    """Of all labels, of some samples from first to last, and of what `augment` makes of those: two functions of one
    name may do different things.

    Raises UsageError where what `augment` gives does not fit.
    """
    chosen = np.linspace(0, len(data) - 1, min(_SAMPLES, len(data))).astype(np.int64)
    inputs = data.read(chosen)
    digest = hashlib.sha256(f"{len(data)} samples".encode())
    _add(digest, data.labels)
    _add(digest, inputs)
    if augment is not None:
        once, again = (augmented(augment, inputs, np.random.default_rng(0)) for _ in range(2))
        if all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(once, again, strict=True)):
            _add(digest, once)
        else:
            progress.note("augment does not keep to the random numbers it is given: this training cannot be repeated")
    return digest.hexdigest()


def _add(digest: hashlib._Hash, arrays: tuple[npt.NDArray[np.generic], ...]) -> None:
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
