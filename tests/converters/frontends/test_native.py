"""Real Keras and SavedModel files through the child process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.frontends import ConversionOptions, start_conversion, to_float_tflite

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def make(code: str, folder: Path) -> None:
    """Run Keras code that saves files in `folder`, in a process of its own: Keras 2 and 3 do not share one well."""
    script = "import numpy as np, tensorflow as tf, keras, tf_keras\n" + textwrap.dedent(code)
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models in all formats, with the outputs they gave for `x.npy` where they were made."""
    folder = tmp_path_factory.mktemp("zoo")
    make(
        """
        x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
        np.save("x.npy", x)

        def small(K):
            i = K.Input((8, 8, 3), name="picture")
            h = K.layers.DepthwiseConv2D(3, activation="relu")(K.layers.BatchNormalization()(i))
            h = K.layers.Conv2D(4, 3, activation="relu")(h)
            h = K.layers.GlobalAveragePooling2D()(h)
            return K.Model(i, K.layers.Dense(5, activation="softmax", name="species")(h))

        m = small(keras)
        m.save("k3.keras"); m.save("k3.h5"); m.export("k3_saved", verbose=False)
        np.save("k3.npy", m.predict(x, verbose=0))

        old = small(tf_keras)
        old.save("k2.h5"); old.save("k2.keras")
        np.save("k2.npy", old.predict(x, verbose=0))

        i = tf_keras.Input((8, 8, 3))
        h = tf.nn.relu(tf_keras.layers.Conv2D(4, 3)(i / 2.0)) [:, 1:]
        ops = tf_keras.Model(i, tf_keras.layers.Dense(3)(tf_keras.layers.Flatten()(h)))
        ops.save("ops.h5"); np.save("ops.npy", ops.predict(x, verbose=0))

        i = keras.Input((None, None, 3))
        free = keras.Model(i, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(i)))
        free.save("free.keras")

        class Twice(keras.layers.Layer):
            def call(self, x): return x * 2
        i = keras.Input((4,)); keras.Model(i, Twice()(i)).save("unregistered.keras")
        keras.Model(i, Twice()(i)).save("unregistered.h5")
        keras.saving.register_keras_serializable("their_package")(Twice)
        keras.Model(i, Twice()(i)).save("registered.keras")

        def touch(x):
            open("touched", "w").close()
            return x
        i = keras.Input((4,))
        keras.Model(i, keras.layers.Lambda(lambda x: [open("touched", "w").close(), x][1])(i)).save("lambda.keras")
        j = tf_keras.Input((4,))
        tf_keras.Model(j, tf_keras.layers.Lambda(lambda x: [open("touched", "w").close(), x][1])(j)).save("lambda.h5")

        class Python(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
            def call(self, x):
                return tf.ensure_shape(tf.py_function(touch, [x], tf.float32), [None, 4])
        p = Python(); tf.saved_model.save(p, "python_op", signatures={"serving_default": p.call})

        class Pipeline(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
            def call(self, x):
                numbers = tf.data.Dataset.range(2).cache("touched")
                return x + tf.cast(numbers.reduce(tf.constant(0, tf.int64), lambda a, b: a + b), tf.float32)
        p = Pipeline(); tf.saved_model.save(p, "pipeline", signatures={"serving_default": p.call})

        class Saves(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
            def call(self, x):
                tf.raw_ops.SaveV2(prefix="touched", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
                return x + 1.0
        s = Saves(); tf.saved_model.save(s, "saves", signatures={"serving_default": s.call})

        class Table(tf.saved_model.experimental.TrackableResource):
            def _create_resource(self): return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32)
            def _initialize(self):
                tf.raw_ops.SaveV2(prefix="touched", tensor_names=["x"], shape_and_slices=[""], tensors=[tf.zeros(1)])
        class Initialized(tf.Module):
            def __init__(self): super().__init__(); self.table = Table(); self.w = tf.Variable(tf.ones(4))
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
            def call(self, x): return x * self.w
        s = Initialized(); s.table.resource_handle
        tf.saved_model.save(s, "saves_when_loaded", signatures={"serving_default": s.call})

        class Two(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
            def a(self, x): return {"sum": tf.reduce_sum(x, 1, keepdims=True)}
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
            def b(self, x): return {"twice": x * 2.0}
        two = Two(); tf.saved_model.save(two, "two", signatures={"a": two.a, "b": two.b})

        class Constants(tf.Module):
            def __init__(self): super().__init__(); self.w = tf.fill([4, 2], 3.0)
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
            def call(self, x): return {"y": x @ self.w}
        c = Constants(); tf.saved_model.save(c, "constants", signatures={"serving_default": c.call})

        class Unusual(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
            def call(self, x): return tf.math.betainc(x, x, x)
        e = Unusual(); tf.saved_model.save(e, "unsupported", signatures={"serving_default": e.call})
        """,
        folder,
    )
    (folder / "touched").unlink(missing_ok=True)
    return folder


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    with open_session(model) as session:
        return np.asarray(session.run(x)[0])


@pytest.mark.parametrize(
    ("name", "expected", "frontend"),
    [
        ("k3.keras", "k3", "keras"),
        ("k3.h5", "k3", "h5"),
        ("k3_saved", "k3", "saved_model"),
        ("k2.h5", "k2", "h5"),
        ("k2.keras", "k2", "keras"),
        ("ops.h5", "ops", "h5"),
    ],
)
def test_every_way_in_gives_the_models_own_numbers(zoo: Path, name: str, expected: str, frontend: str) -> None:
    model = to_float_tflite(zoo / name)
    graph = Graph.read(model.tflite)
    assert model.frontend == frontend
    assert "tensorflow" in model.versions
    assert graph.inputs[0].shape == (1, 8, 8, 3)
    assert graph.numeric_kind() == "float"
    assert not {"SHAPE", "PACK"} & {op.name for op in graph.main.ops}
    assert np.allclose(run(model.tflite, np.load(zoo / "x.npy")), np.load(zoo / f"{expected}.npy"), atol=1e-5)


def test_the_signature_keeps_the_names_of_the_source(zoo: Path) -> None:
    signature = Graph.read(to_float_tflite(zoo / "k3.keras").tflite).signatures[0]
    assert (list(signature.inputs), list(signature.outputs)) == (["picture"], ["species"])


def test_tf_keras_takes_over_for_old_configs_and_this_is_said(zoo: Path) -> None:
    model = to_float_tflite(zoo / "ops.h5")
    assert "tf_keras" in model.versions
    assert "tf-keras" in model.notes[0]


def test_a_suffix_that_keras_does_not_know_does_not_matter(zoo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.download"
    copy.write_bytes((zoo / "k3.keras").read_bytes())
    assert to_float_tflite(copy).frontend == "keras"


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_a_lambda_is_refused_and_its_code_not_run(zoo: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)
    with pytest.raises(RefusedError, match="Lambda layer"):
        to_float_tflite(Path(name))
    assert not (zoo / "touched").exists()


def test_trusted_code_is_run(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)
    try:
        assert to_float_tflite(Path("lambda.keras"), ConversionOptions(trust_code=True)).tflite
        assert (zoo / "touched").exists()
    finally:
        (zoo / "touched").unlink(missing_ok=True)


def test_a_saved_model_that_calls_python_is_refused(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo)
    with pytest.raises(RefusedError, match="EagerPyFunc"):
        to_float_tflite(Path("python_op"))
    assert not (zoo / "touched").exists()


@pytest.mark.parametrize("name", ["saves", "saves_when_loaded"])
def test_a_saved_model_that_writes_checkpoints_is_refused(
    zoo: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every SavedModel holds the op, to save itself; one that calls it while it loads or runs is another thing."""
    monkeypatch.chdir(zoo)
    for path in zoo.glob("touched*"):
        path.unlink()
    with pytest.raises(RefusedError, match="SaveV2"):
        to_float_tflite(Path(name))
    assert not list(zoo.glob("touched*"))


def test_a_saved_model_with_a_data_pipeline_is_refused(zoo: Path) -> None:
    with pytest.raises(RefusedError, match="Dataset"):
        to_float_tflite(zoo / "pipeline")


def test_layers_of_somebody_elses_are_not_looked_for(zoo: Path) -> None:
    with pytest.raises(RefusedError, match="custom class 'their_package>Twice'"):
        to_float_tflite(zoo / "registered.keras")
    for name in ("unregistered.keras", "unregistered.h5"):
        with pytest.raises(UsageError, match="'Twice' is not one of Keras' own layers"):
            to_float_tflite(zoo / name)


def test_free_dimensions_need_a_shape(zoo: Path) -> None:
    with pytest.raises(UsageError, match="has no fixed shape") as caught:
        to_float_tflite(zoo / "free.keras")
    assert "--size" in str(caught.value.hint)
    model = to_float_tflite(zoo / "free.keras", ConversionOptions(shape=(16, 12, 3)))
    assert Graph.read(model.tflite).inputs[0].shape == (1, 16, 12, 3)


def test_one_of_several_signatures_is_chosen_by_name(zoo: Path) -> None:
    with pytest.raises(UsageError, match="which signature") as caught:
        to_float_tflite(zoo / "two")
    assert "a, b" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no signature 'c'"):
        to_float_tflite(zoo / "two", ConversionOptions(signature="c"))
    model = to_float_tflite(zoo / "two", ConversionOptions(signature="b"))
    assert list(Graph.read(model.tflite).signatures[0].outputs) == ["twice"]
    assert np.allclose(run(model.tflite, np.ones((1, 4), np.float32)), 2)


def test_weights_that_are_captured_constants_are_no_inputs(zoo: Path) -> None:
    model = to_float_tflite(zoo / "constants").tflite
    assert [t.shape for t in Graph.read(model).inputs] == [(1, 4)]
    assert np.allclose(run(model, np.ones((1, 4), np.float32)), 12)


def test_an_op_that_tflite_lacks_is_named(zoo: Path) -> None:
    with pytest.raises(UsageError, match="no counterpart for Betainc"):
        to_float_tflite(zoo / "unsupported")


def test_damaged_files_are_one_line(zoo: Path, tmp_path: Path) -> None:
    for name in ("k3.keras", "k3.h5"):
        whole = (zoo / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises((RefusedError, UsageError)) as caught:
            to_float_tflite(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(RefusedError, match=r"damaged saved_model\.pb"):
        to_float_tflite(tmp_path / "saved")


def test_leaving_early_stops_the_child(zoo: Path) -> None:
    with start_conversion(zoo / "k3.keras") as conversion:
        child: Any = conversion._child
    assert child._process.poll() is not None
    assert not child.folder.exists()


def test_nothing_is_printed(zoo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to_float_tflite(zoo / "k3_saved")
    assert capfd.readouterr() == ("", "")


def test_the_child_does_not_outlive_its_parent(zoo: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edgeloop_converters.frontends import start_conversion\n"
        "print(start_conversion(Path(sys.argv[1]))._child._process.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(zoo / "k3.keras")], capture_output=True, text=True)
    stat = Path("/proc") / done.stdout.strip() / "stat"
    deadline = time.monotonic() + 60
    while stat.exists() and ") Z " not in stat.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists() or ") Z " in stat.read_text()
