"""Make up keywords, train a small network on their features, and export it as a SavedModel.

    python samples/keyword_spotting/train.py -o build/keyword_spotting

Writes the folder `keywords/` (the SavedModel), `calibration.npz`, `held_out.npz` and `contract.toml`. Needs Keras:
scripts/setup.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from audio import COEFFICIENTS, FRAMES, WORDS, make

try:
    import keras
except ImportError as error:
    raise SystemExit(f"this sample needs Keras and TensorFlow ({error}) -> scripts/setup") from error

SEED = 7
TRAINED, CALIBRATION, HELD_OUT = 1800, 200, 600

CONTRACT = """# What the network eats: features as audio.py computes them, shifted and scaled. The agent does this, too.
[input]
kind = "tensor"
mean = {mean:.6g}
std = {std:.6g}

[output]
kind = "classification"
labels = "labels.txt"
"""


def build_model() -> keras.Model:
    """A small DS-CNN (Zhang et al. 2017, "Hello Edge"): one convolution, then depthwise separable ones."""
    layers = keras.layers
    image = x = keras.Input((FRAMES, COEFFICIENTS, 1), name="features")
    x = layers.Conv2D(24, (10, 4), strides=(2, 2), padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for _ in range(2):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.Conv2D(32, 1, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(len(WORDS), activation="softmax", name="word")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/keyword_spotting"))
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)

    x, y = make(TRAINED, SEED)
    mean, std = float(f"{x.mean():.6g}"), float(f"{x.std():.6g}")
    model = build_model()
    rate = keras.optimizers.schedules.CosineDecay(5e-3, args.epochs * TRAINED // 32)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit((x - mean) / std, y, batch_size=32, epochs=args.epochs, verbose=0)
    model.export(folder / "keywords", verbose=False)

    held_out, labels = make(HELD_OUT, SEED + 2)
    calibration, known = make(CALIBRATION, SEED + 1)
    np.savez(folder / "calibration.npz", x=calibration, y=known)
    np.savez(folder / "held_out.npz", x=held_out, y=labels)
    (folder / "labels.txt").write_text("".join(f"{word}\n" for word in WORDS))
    (folder / "contract.toml").write_text(CONTRACT.format(mean=mean, std=std))
    _, accuracy = model.evaluate((held_out - mean) / std, labels, verbose=0)
    print(f"{folder}/keywords: {accuracy:.1%} of {HELD_OUT} held-out words right")
    print(f"next: python {Path(__file__).with_name('convert.py')} -o {folder}")


if __name__ == "__main__":
    main()
