"""What a fixed camera sees: a picture that stays, noise, light that drifts, and now and then an object that passes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = (120, 160)
_OBJECT = 36  # pixels across
_PASS = 60  # frames in which the object crosses the picture
_EVERY = 200  # frames from one pass to the next


def scene() -> npt.NDArray[np.float32]:
    """[H, W, 3] 0..255: one of scikit-learn's photographs, scaled down."""
    import cv2
    from sklearn.datasets import load_sample_image

    picture = load_sample_image("china.jpg")
    return cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def frames(count: int, *, noise: float = 3.0, drift: float = 6.0, seed: int = 0) -> npt.NDArray[np.uint8]:
    """uint8 [count, H, W, 3] RGB. noise: standard deviation in levels; drift: how far the light goes up and down."""
    random = np.random.default_rng(seed)
    still, thing = scene(), _thing(random)
    height, width = SIZE
    out = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        picture = still.copy()
        at = i % _EVERY
        if at < _PASS:
            left = round(-_OBJECT + (width + _OBJECT) * at / _PASS)
            low, high = max(0, left), min(width, left + _OBJECT)
            picture[40 : 40 + _OBJECT, low:high] = thing[:, low - left : high - left]
        picture += drift * np.sin(2 * np.pi * i / 300) + noise * random.standard_normal(picture.shape, np.float32)
        out[i] = np.clip(picture, 0, 255)
    return out


def has_object(index: int) -> bool:
    return index % _EVERY < _PASS


def _thing(random: np.random.Generator) -> npt.NDArray[np.float32]:
    """A bright, striped square."""
    stripes = 128 + 100 * np.sign(np.sin(np.arange(_OBJECT) * 0.7))
    colors = np.array([1.0, 0.4, 0.2]) * stripes[:, None, None]
    return np.broadcast_to(colors, (_OBJECT, _OBJECT, 3)).astype(np.float32)
