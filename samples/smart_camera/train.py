"""Train two networks for one camera, a light and a heavy one, and write the video that they watch.

    python samples/smart_camera/train.py -o build/smart_camera

Writes `light.keras`, `heavy.keras`, `calibration.npz`, `test.npz`, `door.avi` and `truth.npy`. Needs Keras:
scripts/setup.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from scene import LABELS, pictures, save_film

try:
    import keras
except ImportError as error:
    raise SystemExit(f"this sample needs Keras and TensorFlow ({error}) -> scripts/setup") from error

SEED = 7
SIZE = 64
TRAINED, CALIBRATION, TEST, FILM = 1600, 120, 600, 900


def build_model(filters: tuple[int, ...]) -> keras.Model:
    """Convolutions that halve the picture, `filters` of them each; float input [1, 64, 64, 3] in 0..1."""
    layers = keras.layers
    image = x = keras.Input((SIZE, SIZE, 3), name="image")
    for count in filters:
        x = layers.Conv2D(count, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, layers.Dense(len(LABELS), activation="softmax", name="who")(x))


def small(frames: np.ndarray) -> np.ndarray:
    """What the network gets of frames: RGB 64x64 in 0..1, as the device makes it of them."""
    import cv2

    resized = [cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., ::-1] for f in frames]
    return (np.stack(resized) / 255.0).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/smart_camera"))
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)

    frames, labels = pictures(TRAINED, SEED)
    x = small(frames)
    test, truth = pictures(TEST, SEED + 2)
    for name, filters in (("light", (8, 12, 16)), ("heavy", (24, 48, 64, 96))):
        model = build_model(filters)
        model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, labels, batch_size=32, epochs=args.epochs, verbose=0)
        model.save(folder / f"{name}.keras")
        _, accuracy = model.evaluate(small(test), truth, verbose=0)
        print(f"{folder}/{name}.keras: {accuracy:.1%} of {TEST} pictures right")
    calibration, known = pictures(CALIBRATION, SEED + 1)
    np.savez(folder / "calibration.npz", x=calibration[..., ::-1], y=known)
    np.savez(folder / "test.npz", x=test[..., ::-1], y=truth)
    np.save(folder / "truth.npy", save_film(folder / "door.avi", FILM, SEED))
    print(f"next: python {Path(__file__).with_name('convert.py')} -o {folder}")


if __name__ == "__main__":
    main()
