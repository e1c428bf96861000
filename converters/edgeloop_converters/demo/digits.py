"""The demo's data: scikit-learn's handwritten digits, real scans that ship with that package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeloop.errors import MissingExtraError

_SEED = 20
_HELD_OUT = 597


@dataclass(frozen=True)
class DigitsSplit:
    """uint8 gray images [n, 8, 8] in 0..255 and int64 labels [n]; the held-out part is never trained on."""

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    held_out_images: npt.NDArray[np.uint8]
    held_out_labels: npt.NDArray[np.int64]


def load_split() -> DigitsSplit:
    """1,200 training and 597 held-out scans, the same split every time."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("the digits data set", "convert") from error
    digits = load_digits()
    # The scans hold 17 gray levels, 0..16; 15.9375 maps them onto the pixel range 0..255.
    images = np.round(digits.images * 15.9375).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(_SEED).permutation(len(images))
    train, held_out = order[:-_HELD_OUT], order[-_HELD_OUT:]
    return DigitsSplit(images[train], labels[train], images[held_out], labels[held_out])
