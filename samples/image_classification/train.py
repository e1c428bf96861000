"""Draw the pictures and train a small Keras network on them.

    python samples/image_classification/train.py -o build/image_classification

Writes `shapes.keras` and the class folders `calibration/` and `test/`. Needs Keras: scripts/setup.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from shapes import CLASSES, SIZE, make, save

try:
    import keras
except ImportError as error:
    raise SystemExit(f"this sample needs Keras and TensorFlow ({error}) -> scripts/setup") from error

SEED = 7
TRAINED, CALIBRATION, TEST = 3000, 200, 500


def build_model() -> keras.Model:
    """Four convolutions; takes pixels 0..255 and scales them itself."""
    layers = keras.layers
    image = x = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    for filters, stride in ((16, 2), (24, 1), (32, 2), (48, 2)):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(len(CLASSES), activation="softmax", name="shape")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/image_classification"))
    parser.add_argument("--epochs", type=int, default=7)
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)

    x, y = make(TRAINED, SEED)
    model = build_model()
    rate = keras.optimizers.schedules.CosineDecay(4e-3, args.epochs * TRAINED // 32)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x.astype("float32"), y, batch_size=32, epochs=args.epochs, verbose=0)
    model.save(folder / "shapes.keras")

    save(folder / "calibration", *make(CALIBRATION, SEED + 1))
    pictures, labels = make(TEST, SEED + 2)
    save(folder / "test", pictures, labels)
    _, accuracy = model.evaluate(pictures.astype("float32"), labels, verbose=0)
    print(f"{folder}/shapes.keras: {accuracy:.1%} of {TEST} pictures right")
    print(f"next: python {Path(__file__).with_name('convert.py')} -o {folder}")


if __name__ == "__main__":
    main()
