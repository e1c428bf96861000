"""Models with several signatures: one is chosen, or the choice is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph, Signature
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import ConversionOptions, to_float_tflite
from edgeloop_converters.io_names import input_names, output_names
from support.tiny_models import TinyBuilder, tiny_mlp


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A .tflite with "classify" (10 features -> 3 classes) and "decode" (3 -> 10)."""
    graph = Graph.read(tiny_mlp())
    graph.signatures[0].key = "classify"
    b = TinyBuilder(7)
    other = b.finish(b.dense(b.input("code", (1, 3)), 10))
    graph.subgraphs.append(other.main)
    signature = other.signatures[0]
    graph.signatures.append(Signature("decode", 1, signature.inputs, signature.outputs))
    path = tmp_path / "two.tflite"
    path.write_bytes(graph.write())
    return path


def test_without_a_choice_the_names_are_listed(two: Path) -> None:
    with pytest.raises(UsageError, match="which signature") as caught:
        to_float_tflite(two)
    assert caught.value.hint == "--signature, one of: classify, decode"
    with pytest.raises(UsageError, match="no signature 'encode'"):
        to_float_tflite(two, ConversionOptions(signature="encode"))


def test_the_chosen_one_is_all_that_is_left(two: Path) -> None:
    first, second = (
        Graph.read(to_float_tflite(two, ConversionOptions(signature=s)).tflite) for s in ("classify", "decode")
    )
    assert (input_names(first), input_names(second)) == (("features",), ("code",))
    assert len(first.subgraphs) == len(second.subgraphs) == 1
    with open_session(second.write()) as session:
        assert session.run(np.ones((1, 3), np.float32))[0].shape == (1, 10)


def test_the_default_is_taken_and_the_others_named(two: Path) -> None:
    graph = Graph.read(two)
    graph.signatures[1].key = "serving_default"
    two.write_bytes(graph.write())
    model = to_float_tflite(two)
    assert "signature 'serving_default' is converted, not classify" in model.notes
    assert input_names(Graph.read(model.tflite)) == ("code",)


def test_a_model_without_any_says_so(tmp_path: Path, digits_tflite: Path) -> None:
    with pytest.raises(UsageError, match="no signature 'x'"):
        to_float_tflite(digits_tflite, ConversionOptions(signature="x"))


@pytest.mark.tensorflow
def test_a_saved_model_with_two(tmp_path: Path) -> None:
    import tensorflow as tf

    class Both(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def classify(self, x: Any) -> dict[str, Any]:
            return {"classes": tf.nn.softmax(x @ self.weights)}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="code")])  # type: ignore[untyped-decorator]
        def decode(self, code: Any) -> dict[str, Any]:
            return {"decoded": code @ tf.transpose(self.weights)}

    both, path = Both(), tmp_path / "saved"
    tf.saved_model.save(both, str(path), signatures={"classify": both.classify, "decode": both.decode})
    with pytest.raises(UsageError, match="which signature") as caught:
        to_float_tflite(path)
    assert caught.value.hint == "--signature, one of: classify, decode"
    graph = Graph.read(to_float_tflite(path, ConversionOptions(signature="decode")).tflite)
    assert (input_names(graph), output_names(graph)) == (("code",), ("decoded",))


@pytest.mark.tensorflow
def test_outputs_keep_the_order_that_keras_has(tmp_path: Path) -> None:
    import keras

    x = keras.Input((6,), name="x")
    outputs = [keras.layers.Dense(3, name="zz")(x), keras.layers.Dense(2, name="aa")(x)]
    keras.Model(x, outputs).save(tmp_path / "m.keras")
    graph = Graph.read(to_float_tflite(tmp_path / "m.keras").tflite)
    assert output_names(graph) == ("zz", "aa")
    assert [t.shape for t in graph.outputs] == [(1, 3), (1, 2)]
    with pytest.raises(UsageError, match="has no signatures"):
        to_float_tflite(tmp_path / "m.keras", ConversionOptions(signature="x"))
