"""Keras models on token ids of any length, and sentences that they can learn in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WORDS, LONGEST = 40, 40


def sentences(count: int, seed: int = 0, shortest: int = 4) -> tuple[Any, Any]:
    """(ids int32 [count, 40], 0 behind the end; class ids): which of the words 1, 2, 3 stands in it, twice."""
    random = np.random.default_rng(seed)
    lengths, labels = random.integers(shortest, LONGEST + 1, count), random.integers(0, 3, count)
    ids = np.zeros((count, LONGEST), np.int32)
    for row, length, label in zip(ids, lengths, labels, strict=True):
        row[:length] = random.integers(4, WORDS, length)
        row[random.permutation(length)[:2]] = label + 1
    return ids, labels


def trained(path: Path) -> None:
    """Embedding, convolution and maximum over any length -> softmax over 3 classes; trained for a few epochs."""
    import keras

    keras.utils.set_random_seed(0)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(WORDS, 8)(tokens)
    x = keras.layers.Conv1D(16, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalMaxPooling1D()(x)
    model = keras.Model(tokens, keras.layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(*sentences(600), epochs=6, batch_size=64, verbose=0)
    model.save(path)


def transformer(path: Path, length: int = 16) -> None:
    """ "tokens" int32 and "mask" float32 [length] -> one block of attention -> softmax over 3 classes; untrained."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    mask = keras.Input((length,), name="mask")
    x = layers.Embedding(WORDS, 16)(tokens) * layers.Reshape((length, 1))(mask)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="relu")(x)))
    x = layers.GlobalAveragePooling1D()(x)
    keras.Model([tokens, mask], layers.Dense(3, activation="softmax", name="classes")(x)).save(path)
