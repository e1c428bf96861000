"""Small pictures on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    """A random BGR picture of (height, width); the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def class_folders(root: Path, classes: dict[str, int]) -> Path:
    """One folder of PNGs per class: {"cat": 3, "dog": 2}."""
    for number, (name, count) in enumerate(classes.items()):
        for i in range(count):
            write_image(root / name / f"{i:03}.png", seed=100 * number + i)
    return root
