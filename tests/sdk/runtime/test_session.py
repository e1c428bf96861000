from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DataError, DelegateError, EdgeloopError, RefusedError, UsageError
from edgeloop.runtime import open_first, open_session, runtime_info

FRAME = np.random.default_rng(1).random((1, 8, 8, 1), dtype=np.float32)


def test_a_model_runs_and_says_on_what(digits_tflite: Path) -> None:
    with open_session(digits_tflite) as session:
        [scores] = session.run(FRAME)
        ran = session.ran_on
    assert scores.shape == (1, 10)
    assert scores.sum() == pytest.approx(1.0, abs=1e-3)
    assert (ran.asked, ran.ran, ran.delegated_ops, ran.total_ops) == ("xnnpack", "xnnpack", 9, 9)
    assert ran.runtime == str(runtime_info())


def test_cpu_means_no_default_delegate(digits_tflite: Path) -> None:
    with open_session(digits_tflite, delegate="cpu") as session:
        assert (session.ran_on.ran, session.ran_on.delegated_ops) == ("cpu", 0)
        plain = session.run(FRAME)[0]
    with open_session(digits_tflite.read_bytes(), threads=2) as session:
        np.testing.assert_allclose(session.run(FRAME)[0], plain, atol=1e-5)


def test_a_partly_delegated_model_counts_only_what_was_taken(shared_data: Path) -> None:
    model = shared_data / "models/mlperf_tiny/pretrainedResnet_quant.tflite"
    with open_session(model) as session:
        # XNNPACK leaves int8 AVERAGE_POOL_2D and SOFTMAX to the interpreter.
        assert (session.ran_on.ran, session.ran_on.delegated_ops, session.ran_on.total_ops) == ("xnnpack", 14, 16)
        [info] = session.inputs
        assert (info.shape, info.dtype, info.affine.scale, info.affine.zero_point) == (
            (1, 32, 32, 3),
            np.int8,
            1.0,
            -128,
        )


def test_the_hot_path_gives_what_run_gives(digits_tflite: Path) -> None:
    with open_session(digits_tflite) as session:
        expected = session.run(FRAME)[0]
        session.set_input(0, np.zeros_like(FRAME))
        session.invoke()
        first = session.output(0)
        session.set_input(0, FRAME)
        session.invoke()
        np.testing.assert_array_equal(session.output(0), expected)
        assert not np.array_equal(first, expected)  # a copy: the second run did not change it


def test_inner_tensors_can_be_read_when_they_were_kept(digits_tflite: Path) -> None:
    with open_session(digits_tflite, delegate="cpu", keep_tensors=True) as session:
        output = session.run(FRAME)[0]
        tensors = {t.index: t for t in session.tensors()}
        inner = [i for i in tensors if i not in {t.index for t in (*session.inputs, *session.outputs)}]
        assert len(tensors) > 9
        assert all(session.tensor(i).shape == tensors[i].shape for i in inner)
        np.testing.assert_array_equal(session.tensor(session.outputs[0].index), output)
    with open_session(digits_tflite) as session, pytest.raises(UsageError, match="not kept"):
        session.tensor(0)


def test_wrong_input_is_a_data_error(digits_tflite: Path) -> None:
    with open_session(digits_tflite) as session:
        for bad in (FRAME[0], FRAME.astype(np.float64), FRAME.astype(np.uint8)):
            with pytest.raises(DataError, match="input 0"):
                session.run(bad)
        with pytest.raises(DataError, match="1 inputs, got 2"):
            session.run(FRAME, FRAME)


def test_a_closed_session_says_so(digits_tflite: Path) -> None:
    session = open_session(digits_tflite)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run(FRAME)


@pytest.mark.parametrize("content", [b"", b"x", b"TFL3" * 10, b"\0" * 64, b"PK\3\4" + b"z" * 500])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        open_session(content)
    file = tmp_path / "m.tflite"
    file.write_bytes(content)
    with pytest.raises(RefusedError):
        open_session(file)


def test_a_missing_file_and_wrong_threads_are_wrong_use(tmp_path: Path, digits_tflite: Path) -> None:
    with pytest.raises(UsageError, match="no model file"):
        open_session(tmp_path / "none.tflite")
    with pytest.raises(UsageError, match="threads"):
        open_session(digits_tflite, threads=0)


def test_damaged_models_never_bring_a_foreign_exception(digits_tflite: Path) -> None:
    data, rng = digits_tflite.read_bytes(), random.Random(7)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        else:  # the structure sits at both ends, weights in the middle
            for _ in range(rng.choice((1, 3, 30))):
                damaged[rng.choice((rng.randrange(400), len(data) - 1 - rng.randrange(4000)))] = rng.randrange(256)
        try:
            open_session(bytes(damaged)).close()
        except EdgeloopError as error:
            assert "\n" not in error.message
            refused += 1
    assert refused > 30


def test_a_compiled_model_without_its_delegate_names_the_op(shared_data: Path) -> None:
    model = shared_data / "models/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    with pytest.raises(DelegateError, match="edgetpu-custom-op"):
        open_session(model)


def test_an_unknown_custom_op_is_named(shared_data: Path) -> None:
    with pytest.raises(UsageError, match="fake-op-double"):
        open_session(shared_data / "models/coral/model_invoking_error.tflite")


def test_the_first_delegate_that_opens_is_taken_and_the_others_say_why(digits_tflite: Path) -> None:
    session, failures = open_first(digits_tflite, ["edgetpu", "external:./nowhere.so", "cpu"])
    with session:
        assert session.ran_on.asked == "cpu"
    assert [f.delegate for f in failures] == ["edgetpu", "external:./nowhere.so"]
    assert all(f.reason and f.fix for f in failures)
    with pytest.raises(DelegateError, match=r"libedgetpu.*nowhere"):
        open_first(digits_tflite, ["edgetpu", "external:./nowhere.so"])
    with pytest.raises(RefusedError):  # no delegate helps a corrupt model
        open_first(b"corrupt", ["xnnpack", "cpu"])
    with pytest.raises(UsageError):
        open_first(digits_tflite, [])


def test_opening_writes_nothing_to_stderr(digits_tflite: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeloop.runtime import open_first\n"
        "open_first(Path(sys.argv[1]), ['edgetpu', 'external:libm.so.6', 'xnnpack'], keep_tensors=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(digits_tflite)], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
