"""Recurrent Keras models: unrolled, so that they become int8 like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop
from edgeloop.affine import dequantize, quantize
from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.frontends import ConversionOptions, to_float_tflite
from edgeloop_converters.frontends.recurrent import MAX_STEPS
from edgeloop_converters.quantization import quantize_int8

pytestmark = pytest.mark.tensorflow

STEPS, FEATURES = 20, 10


def save(folder: Path, layer: str, units: int = 24, steps: int | None = None) -> tuple[Path, Any]:
    """(path, model) of one recurrent layer with a softmax over 4 classes."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    if layer == "Bidirectional":
        recurrent = layers.Bidirectional(layers.LSTM(units))
    else:
        recurrent = getattr(layers, layer)(units)
    model = keras.Sequential(
        [keras.Input((steps, FEATURES), name="series"), recurrent, layers.Dense(4, activation="softmax")]
    )
    path = folder / f"{layer}.keras"
    model.save(path)
    return path, model


def walks(count: int) -> np.ndarray:
    steps = np.random.default_rng(0).standard_normal((count, STEPS, FEATURES)).astype(np.float32)
    return np.asarray(np.cumsum(steps, axis=1) * 0.5, np.float32)


@pytest.mark.parametrize("layer", ["SimpleRNN", "LSTM", "GRU", "Bidirectional"])
def test_a_recurrent_layer_ends_in_int8_on_the_fast_kernels(tmp_path: Path, layer: str) -> None:
    path, keras_model = save(tmp_path, layer, 128 if layer == "SimpleRNN" else 24)
    x = walks(140)
    model = to_float_tflite(path, ConversionOptions(sample_shape=(STEPS, FEATURES)))
    assert any("unrolled over 20 steps" in note for note in model.notes)
    assert not {op.name for op in Graph.read(model.tflite).main.ops} & {"WHILE", "SPLIT_V"}
    wanted = np.asarray(keras_model(x[:40]))
    with open_session(model.tflite) as session:
        ours = np.concatenate([session.run(row[None])[0] for row in x[:40]])
    assert np.abs(ours - wanted).max() < 1e-5
    result = quantize_int8(model.tflite, calibrate(model.tflite, [row[None] for row in x[40:]]))
    assert result.float_ops == ()
    with open_session(result.tflite) as session:
        assert session.ran_on.delegated_ops >= session.ran_on.total_ops - 3
        codes = quantize(x[:40], session.inputs[0].affine, np.dtype(np.int8))
        int8 = dequantize(np.concatenate([session.run(row[None])[0] for row in codes]), session.outputs[0].affine)
    assert (int8.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.9


def test_a_free_length_is_settled_by_the_shape_or_named(tmp_path: Path) -> None:
    path, _ = save(tmp_path, "SimpleRNN", 8)
    settled = to_float_tflite(path, ConversionOptions(shape=(5, FEATURES)))
    assert Graph.read(settled.tflite).inputs[0].shape == (1, 5, FEATURES)
    with pytest.raises(UsageError, match="'series' has no fixed shape") as caught:
        to_float_tflite(path)
    assert "--shape 20x10" in str(caught.value.hint)


def test_a_long_sequence_stays_a_loop_and_this_is_said(tmp_path: Path) -> None:
    path, _ = save(tmp_path, "GRU", 4, MAX_STEPS + 1)
    model = to_float_tflite(path)
    assert f"stay a loop over {MAX_STEPS + 1} steps" in model.notes[0]
    samples = [np.zeros((1, MAX_STEPS + 1, FEATURES), np.float32)]
    with pytest.raises(UsageError, match="WHILE"):
        quantize_int8(model.tflite, calibrate(model.tflite, samples))


@pytest.mark.slow
def test_a_long_lstm_of_keras_2_takes_the_fused_kernel(tmp_path: Path) -> None:
    steps = MAX_STEPS + 1
    import tf_keras

    for kind in ("LSTM", "GRU"):
        recurrent = getattr(tf_keras.layers, kind)(4)
        layers = [tf_keras.layers.Input((steps, FEATURES)), recurrent, tf_keras.layers.Dense(3, activation="softmax")]
        tf_keras.Sequential(layers).save(tmp_path / f"{kind}.h5")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((24, steps, FEATURES)).astype(np.float32))
    result = edgeloop.convert(str(tmp_path / "LSTM.h5"), data=str(tmp_path / "x.npz"), effort="fast")
    names = {op.name for op in Graph.read(result.variants[0].model).main.ops}
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in names and "WHILE" not in names
    assert any("fused LSTM kernel" in note and "left out" in note for note in result.notes)
    with pytest.raises(UsageError, match=rf"\(GRU\) is a loop over more than {MAX_STEPS} steps") as caught:
        edgeloop.convert(str(tmp_path / "GRU.h5"), data=str(tmp_path / "x.npz"), effort="fast")
    assert "--scheme float" in str(caught.value.hint)


@pytest.mark.parametrize(("said", "found"), [("3.15.1", "3.15.1"), (b"2.4.0", "2.4.0"), (None, "2.")])
def test_which_keras_wrote_an_h5(tmp_path: Path, said: str | bytes | None, found: str) -> None:
    h5py = pytest.importorskip("h5py")
    from edgeloop_converters.frontends.keras_models import _h5_version

    with h5py.File(tmp_path / "m.h5", "w") as file:
        if said is not None:
            file.attrs["keras_version"] = said
    assert _h5_version(tmp_path / "m.h5") == found
