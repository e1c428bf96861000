"""Train the small digits CNN of `edgeloop demo` on scikit-learn's handwritten digits (8x8 real scans).

    python samples/digits/train.py                 # writes digits.keras and digits.tflite beside this file

Needs Keras (`scripts/setup`), takes about half a minute on 2 cores. The split is the demo's own, so the
held-out images are never trained on. The .tflite that ships with edgeloop was made by this script.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

try:
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
except ImportError as error:
    raise SystemExit(f"this sample needs Keras and TensorFlow ({error}) -> scripts/setup") from error

from edgeloop_converters.demo.digits import load_split

SEED = 7


def build_model() -> keras.Model:
    """A 28k-parameter CNN; float input [1, 8, 8, 1] in 0..1."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(48, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )


def train(epochs: int, log: int = 2) -> keras.Model:
    """Train on the demo's training part, 15 % of which is kept for validation."""
    keras.utils.set_random_seed(SEED)
    split = load_split()
    x = (split.train_images[..., None] / 255.0).astype(np.float32)
    model = build_model()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, split.train_labels, batch_size=32, epochs=epochs, validation_split=0.15, verbose=log)
    return model


def to_float_tflite(model: keras.Model) -> bytes:
    """The float .tflite with batch 1, which is what edgeloop starts from."""
    function = tf.function(lambda image: {"digit": model(image, training=False)})
    concrete = function.get_concrete_function(tf.TensorSpec((1, 8, 8, 1), tf.float32, name="image"))
    # Frozen first: with live variables the converter writes a file whose weights are missing.
    frozen = convert_variables_to_constants_v2(concrete)
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder for the two files")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--keras-only", action="store_true", help="write only digits.keras")
    args = parser.parse_args()
    model = train(args.epochs)
    args.output.mkdir(parents=True, exist_ok=True)
    model.save(args.output / "digits.keras")
    if not args.keras_only:
        logging.getLogger("absl").setLevel(logging.ERROR)  # it asks for a trackable object, which frozen functions lack
        (args.output / "digits.tflite").write_bytes(to_float_tflite(model))
    split = load_split()
    held_out = (split.held_out_images[..., None] / 255.0).astype(np.float32)
    accuracy = float((model.predict(held_out, verbose=0).argmax(1) == split.held_out_labels).mean())
    print(f"{args.output}/digits.keras: {accuracy:.2%} of {len(held_out)} held-out scans right")
    print(f"next: python {Path(__file__).with_name('convert.py')} -o {args.output}")


if __name__ == "__main__":
    main()
