"""What a camera at a door sees: the same yard all day, noise, drifting light, and now and then somebody who passes.

Drawn with OpenCV, so the sample needs no download. The same drawing makes training pictures and the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

LABELS = ("nobody", "person", "dog", "car")
WIDTH, HEIGHT = 160, 120
FPS = 20.0
PASS_EVERY, PASS_FRAMES = 150, 50
"""In the video somebody passes every 150 frames, for 50 of them."""


def yard() -> np.ndarray:
    """uint8 [120, 160, 3] BGR: wall, door, window and ground."""
    picture = np.full((HEIGHT, WIDTH, 3), (150, 160, 165), np.uint8)
    for row in range(0, 84, 8):
        cv2.line(picture, (0, row), (WIDTH, row), (135, 146, 152), 1)
    cv2.rectangle(picture, (0, 84), (WIDTH, HEIGHT), (95, 110, 115), -1)
    cv2.rectangle(picture, (112, 30), (138, 84), (60, 80, 110), -1)
    cv2.rectangle(picture, (20, 24), (52, 50), (190, 170, 140), -1)
    cv2.line(picture, (36, 24), (36, 50), (120, 120, 120), 2)
    return picture


def draw(picture: np.ndarray, what: str, x: int, color: tuple[int, int, int], size: float) -> None:
    """Somebody on the ground at column `x`, into the picture. size: 1 is as large as the door."""

    def at(dx: float, dy: float) -> tuple[int, int]:
        return round(x + dx * size), round(108 - dy * size)

    dark = tuple(c // 2 for c in color)
    if what == "person":
        cv2.ellipse(picture, (at(0, 26), (round(13 * size), round(32 * size)), 0), color, -1)
        cv2.circle(picture, at(0, 48), round(6 * size), (150, 180, 215), -1)
        cv2.line(picture, at(-3, 10), at(-4, 0), dark, 3)
        cv2.line(picture, at(3, 10), at(4, 0), dark, 3)
    elif what == "dog":
        cv2.ellipse(picture, (at(0, 12), (round(26 * size), round(11 * size)), 0), color, -1)
        cv2.circle(picture, at(14, 18), round(6 * size), color, -1)
        for leg in (-9, -5, 6, 10):
            cv2.line(picture, at(leg, 8), at(leg, 0), dark, 2)
        cv2.line(picture, at(-12, 14), at(-18, 21), color, 2)
    elif what == "car":
        cv2.rectangle(picture, at(-30, 20), at(30, 5), color, -1)
        cv2.rectangle(picture, at(-16, 32), at(16, 20), color, -1)
        cv2.rectangle(picture, at(-12, 30), at(12, 22), (200, 190, 170), -1)
        for wheel in (-18, 18):
            cv2.circle(picture, at(wheel, 5), round(6 * size), (30, 30, 30), -1)


def seen(picture: np.ndarray, light: float, noise: float, random: np.random.Generator) -> np.ndarray:
    """The picture as the camera gives it. light: levels brighter; noise: standard deviation in levels."""
    rough = picture + light + noise * random.standard_normal(picture.shape, np.float32)
    return np.clip(rough, 0, 255).astype(np.uint8)


def somebody(random: np.random.Generator) -> tuple[tuple[int, int, int], float]:
    """(color, size) of the next one."""
    b, g, r = (int(v) for v in random.integers(20, 220, 3))
    return (b, g, r), float(random.uniform(0.65, 1.05))


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 120, 160, 3] BGR, class ids [n]): every class as often, anywhere, in any light."""
    random, still = np.random.default_rng(seed), yard()
    labels = np.arange(count) % len(LABELS)
    made = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for i, label in enumerate(labels):
        picture = still.copy()
        if label:
            draw(picture, LABELS[label], int(random.integers(8, WIDTH - 8)), *somebody(random))
        made[i] = seen(picture, float(random.uniform(-45, 35)), float(random.uniform(2, 12)), random)
    return made, labels


def film(count: int, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """Frames of the fixed camera and who is in each: (uint8 [120, 160, 3] BGR, class id)."""
    random, still = np.random.default_rng(seed), yard()
    who, look = 1, somebody(random)
    for i in range(count):
        picture, label, at = still.copy(), 0, i % PASS_EVERY - (PASS_EVERY - PASS_FRAMES)
        if at == 0:
            who, look = int(random.integers(1, len(LABELS))), somebody(random)
        if at >= 0:
            x = round(-20 + (WIDTH + 40) * at / PASS_FRAMES)
            draw(picture, LABELS[who], x, *look)
            label = who if 8 <= x < WIDTH - 8 else 0
        yield seen(picture, 10 * np.sin(2 * np.pi * i / 900), 2.5, random), label


def save_film(path: Path, count: int, seed: int) -> np.ndarray:
    """Writes a Motion JPEG .avi; class ids [n]."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise SystemExit(f"OpenCV here cannot write {path}")
    labels = []
    for frame, label in film(count, seed):
        writer.write(frame)
        labels.append(label)
    writer.release()
    return np.array(labels)
