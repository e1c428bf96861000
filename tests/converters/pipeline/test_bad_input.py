"""What cannot be converted: one line that names what, where, and what to do next; nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Op
from edgeloop_converters.calibration import calibrate
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.frontends import start_conversion
from edgeloop_converters.frontends.size_limit import MAX_BYTES
from edgeloop_converters.pipeline import convert
from edgeloop_converters.quantization import quantize_int8
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from support.tiny_models import TinyBuilder, tiny_cnn


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).random((40, 8, 8, 3), np.float32))
    return str(path)


def test_a_custom_op_is_named(tmp_path: Path, data: str) -> None:
    b = TinyBuilder(0)
    x = b.conv(b.input("image", (1, 8, 8, 3)), 4)
    y = b.tensor("mystery", (1, 8, 8, 4))
    b.sub.ops.append(Op("MyOp", [x], [y], custom=True))
    path = tmp_path / "custom.tflite"
    path.write_bytes(b.finish(b.softmax(b.dense(b.mean(y), 3))).write())
    with pytest.raises(UsageError, match="the custom op MyOp") as caught:
        convert(Recipe(str(path), data=data, effort="fast"))
    assert caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize("head", [b"\x1c\0\0\0TFL3", b"\x89HDF\r\n\x1a\n"])
def test_more_than_a_gib_of_weights_is_refused_before_work_starts(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "large.model"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(MAX_BYTES + (200 << 20))
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"holds 1\.2 GiB of weights; at most 1 GiB") as caught:
        start_conversion(path)
    assert caught.value.hint and time.monotonic() - began < 60


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_model_that_answers_nan_is_told_by_the_samples(tmp_path: Path) -> None:
    b = TinyBuilder(0)
    y = b.dense(b.input("x", (1, 4)), 2)
    weights = b.sub.tensors[b.sub.ops[0].inputs[1]]
    weights.data = np.full_like(weights.data, np.nan)
    path, data = tmp_path / "nan.tflite", tmp_path / "x.npz"
    path.write_bytes(b.finish(y).write())
    np.savez(data, x=np.random.default_rng(0).random((40, 4), np.float32), y=np.arange(40) % 2)
    recipe = Recipe(str(path), data=str(data), passes=plan_passes("float", "aeq", "fast"), effort="fast")
    with pytest.raises(DataError, match="the float model answers NaN or infinity on 40 of 40 samples"):
        convert(recipe)


def test_an_int8_model_is_sent_back(tmp_path: Path, data: str) -> None:
    model = tiny_cnn()
    samples = [np.random.default_rng(i).random((1, 8, 8, 3)).astype(np.float32) for i in range(4)]
    path = tmp_path / "int8.tflite"
    path.write_bytes(quantize_int8(model, calibrate(model, samples)).tflite)
    with pytest.raises(UsageError, match="is quantized to int8 already") as caught:
        convert(Recipe(str(path), data=data, effort="fast"))
    assert "give the float model" in str(caught.value.hint)


def test_a_scheme_that_the_target_cannot_take_is_said_before_anything_is_read() -> None:
    recipe = Recipe("not there.tflite", "coral-usb", "not there either", passes=plan_passes("a16w8", "aeq", "fast"))
    with pytest.raises(UsageError, match="computes in int8 only and cannot take --scheme a16w8") as caught:
        convert(recipe)
    assert "--scheme int8" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing_behind(
    number: signal.Signals, digits_tflite: Path, tmp_path: Path, edgeloop_home: Path
) -> None:
    folder, scratch = tmp_path / "work", tmp_path / "tmp"
    folder.mkdir()
    scratch.mkdir()
    split = load_split()
    np.savez(tmp_path / "digits.npz", x=split.train_images, y=split.train_labels)
    command = [
        sys.executable, "-m", "edgeloop.cli", "convert", str(digits_tflite), "--data", str(tmp_path / "digits.npz"),
        "--effort", "best", "--mean", "0", "--std", "255", "--color", "gray", "-o", "d.bundle",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    assert process.stderr is not None
    told = ""
    while "samples calibrate" not in told:  # the note before calibration; the refinement that follows takes seconds
        line = process.stderr.readline()
        assert line, told
        told += line
    time.sleep(0.5)
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode in (130, 128 + number, -number), rest
    assert "Traceback" not in rest
    assert list(folder.iterdir()) == []
    assert list(scratch.iterdir()) == []
