from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeloop.runtime._stderr import captured_stderr


def test_known_noise_is_dropped_and_the_rest_comes_out_after_all(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as lines:
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nWARNING: the stick is hot\n")
    assert capfd.readouterr().err == "WARNING: the stick is hot\n"
    assert len(lines) == 2


def test_when_the_body_fails_the_lines_go_to_the_caller_only(capfd: pytest.CaptureFixture[str]) -> None:
    kept: list[list[str]] = []
    with pytest.raises(ValueError, match="no"), captured_stderr() as lines:
        kept.append(lines)
        os.write(2, b"ERROR: useful\n")
        raise ValueError("no")
    assert capfd.readouterr().err == ""
    assert kept == [["ERROR: useful"]]


def test_it_may_be_nested_and_fd_2_is_back_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr(replay=False) as outer, captured_stderr():
        os.write(2, b"inner\n")
    os.write(2, b"after\n")
    assert outer == ["inner"]
    assert capfd.readouterr().err == "after\n"


def test_a_process_without_stderr_still_works() -> None:
    code = (
        "import os; os.close(2)\nfrom edgeloop.runtime._stderr import captured_stderr\n"
        "with captured_stderr() as lines: pass\nprint(lines)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"[]"
