"""Train a small network that hears from 64 readings how a motor is.

    python samples/serial_sensor/train.py -o build/serial_sensor

Writes `motor.keras`, `calibration.npz` and `held_out.npz`. Needs Keras: scripts/setup.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from sensor import LABELS, WINDOW, windows

try:
    import keras
except ImportError as error:
    raise SystemExit(f"this sample needs Keras and TensorFlow ({error}) -> scripts/setup") from error

SEED = 7
TRAINED, CALIBRATION, HELD_OUT = 1500, 120, 600


def build_model() -> keras.Model:
    """Convolutions along time over all three axes at once; float input [1, 64, 3] in g."""
    layers = keras.layers
    readings = keras.Input((WINDOW, 3), name="readings")
    x = layers.Reshape((WINDOW, 3, 1))(readings)
    x = layers.Conv2D(12, (7, 3), strides=(2, 1), padding="valid", activation="relu")(x)
    x = layers.Conv2D(16, (5, 1), strides=(2, 1), padding="same", activation="relu")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(readings, layers.Dense(len(LABELS), activation="softmax", name="state")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/serial_sensor"))
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)
    x, y = windows(TRAINED, SEED)
    model = build_model()
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=args.epochs, verbose=0)
    model.save(folder / "motor.keras")
    held_out, states = windows(HELD_OUT, SEED + 2)
    calibration, known = windows(CALIBRATION, SEED + 1)
    np.savez(folder / "calibration.npz", x=calibration, y=known)
    np.savez(folder / "held_out.npz", x=held_out, y=states)
    _, accuracy = model.evaluate(held_out, states, verbose=0)
    print(f"{folder}/motor.keras: {accuracy:.1%} of {HELD_OUT} windows right")
    print(f"next: python {Path(__file__).with_name('convert.py')} -o {folder}")


if __name__ == "__main__":
    main()
