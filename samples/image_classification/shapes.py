"""Pictures of shapes to learn from, drawn by a seed: class folders of PNG files, as `edgeloop convert` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("circle", "cross", "square", "star", "triangle")  # in alphabetical order, as class folders are numbered
SIZE = 32
_DRAWN = 128  # drawn large and scaled down, so that edges are smooth


def outline(name: str) -> np.ndarray:
    """Corners of a shape of radius 1, float [n, 2]."""
    if name == "cross":
        a, b = 1.0, 0.32
        corners = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b),
                   (-b, -b)]  # fmt: skip
        return np.array(corners)
    count, inner = {"circle": (48, 1.0), "square": (4, 1.0), "star": (10, 0.45), "triangle": (3, 1.0)}[name]
    angles = np.arange(count) * 2 * np.pi / count
    radii = np.where(np.arange(count) % 2, inner, 1.0) if name == "star" else np.ones(count)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]


def draw(name: str, random: np.random.Generator) -> np.ndarray:
    """One picture, uint8 [32, 32, 3] RGB: any place, size and angle, squeezed a little, bright on a dark ground."""
    ground, ink = random.integers(0, 110, 3), random.integers(140, 256, 3)
    image = np.full((_DRAWN, _DRAWN, 3), ground, np.uint8)
    for _ in range(2):  # lines that mean nothing
        ends = random.integers(0, _DRAWN, (2, 2))
        cv2.line(image, ends[0].tolist(), ends[1].tolist(), random.integers(0, 256, 3).tolist(), 2)
    angle, radius = random.uniform(0, 2 * np.pi), random.uniform(0.22, 0.42) * _DRAWN
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag(random.uniform(0.8, 1.2, 2))
    center = random.uniform(radius * 0.9, _DRAWN - radius * 0.9, 2)
    corners = (outline(name) @ turn @ squeeze * radius + center).round().astype(np.int32)
    cv2.fillPoly(image, [corners], ink.tolist())
    small = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.clip(small + random.normal(0, 8, small.shape), 0, 255).astype(np.uint8)


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(pictures uint8 [n, 32, 32, 3], class ids [n]), every class as often."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    return np.stack([draw(CLASSES[i], random) for i in labels]), labels


def save(folder: Path, pictures: np.ndarray, labels: Sequence[int]) -> None:
    """Class folders of PNG files."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        cv2.imwrite(str(folder / CLASSES[label] / f"{i:04d}.png"), picture[..., ::-1])  # OpenCV wants BGR
