"""The child process: what happens there is one line here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgeloop.errors import EdgeloopError, MissingExtraError, UsageError
from edgeloop_converters.child import Child
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.frontends.explain import explain


def test_a_module_that_fails_to_start_is_one_line() -> None:
    with Child("no_such_module_here", what="converting x").ask({}) as child, pytest.raises(UsageError) as caught:
        child.result()
    assert caught.value.message.startswith("converting x: the converter stopped with exit code 1")
    assert "no_such_module_here" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_killed_child_is_explained_by_memory() -> None:
    with Child("code", what="converting x").ask({}) as child:  # the interactive prompt: waits for more on stdin
        os.kill(child._process.pid, signal.SIGKILL)
        with pytest.raises(UsageError, match="memory ran out"):
            child.result()


def test_a_crash_names_its_signal() -> None:
    with Child("code", what="converting x").ask({}) as child:
        os.kill(child._process.pid, signal.SIGSEGV)
        with pytest.raises(UsageError, match="crashed \\(SIGSEGV\\)"):
            child.result()


def test_noise_on_stdout_is_not_an_answer() -> None:
    with Child("this", what="converting x").ask({}) as child, pytest.raises(UsageError, match="exit code 0"):
        child.result()


def test_closing_stops_the_child_and_removes_its_folder() -> None:
    child = Child("code", what="converting x").ask({})
    folder, process = child.folder, child._process
    assert folder.is_dir()
    child.close()
    child.close()
    assert process.poll() is not None
    assert not folder.exists()


def test_an_unknown_task_is_one_line() -> None:
    child = Child("edgeloop_converters.frontends.child", what="converting x").ask({"task": "dance"})
    with child, pytest.raises(UsageError, match="converting x: KeyError: 'dance'"):
        child.result()


def test_ops_without_a_counterpart_are_named() -> None:
    class ConverterError(Exception):
        pass

    text = "loc(...): error: 'tf.Erf' op is neither a custom op nor a flex op\n<unknown>:0: note: 'tf.Betainc' op is "
    message, hint = explain(ConverterError(text + "neither a custom op nor a flex op\nmore\n" * 50))
    assert message == "TFLite has no counterpart for Betainc, Erf"
    assert hint


@pytest.mark.parametrize(
    ("package", "source", "words"),
    [("h5py", "m.h5", r"reading \.h5 files"), ("tensorflow", "saved", "reading SavedModels")],
)
def test_a_missing_extra_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, source: str, words: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / f"{package}.py").write_text("raise ImportError('not installed')")
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    monkeypatch.setenv("PYTHONPATH", str(blocked))
    with pytest.raises(MissingExtraError, match=f"{words} needs the 'keras' extra") as caught:
        to_float_tflite(tmp_path / source)
    assert caught.value.hint == "pip install 'edgeloop[keras]', or in a checkout: scripts/setup"


def test_a_package_of_the_same_name_in_the_current_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h5py.py").write_text("open('touched', 'w').close()")
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeloopError):
        to_float_tflite(Path("m.h5"))
    assert not (tmp_path / "touched").exists()
