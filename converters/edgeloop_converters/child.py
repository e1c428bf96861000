"""Running native libraries in a child process: their crash, their noise and their memory stay out of this one.

The child reads one JSON line on stdin and keeps reading: the end of stdin means that the parent is gone, and it leaves.
It answers with one JSON object on stdout. What libraries print goes to a file that is looked at only after a crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeloop import errors
from edgeloop.errors import EdgeloopError, MissingExtraError, UsageError

_TAIL_BYTES = 64 << 10


class Child:
    """A started child. `folder` is a private folder for files that pass between the two; `close` removes it."""

    def __init__(self, module: str, *arguments: str, what: str, in_folder: bool = True) -> None:
        """`python -m module arguments`. `what` begins the errors: "converting x.h5". in_folder: it works in `folder`;
        else in the current one, where the user's own modules are."""
        self.what = what
        self.folder = Path(tempfile.mkdtemp(prefix="edgeloop-"))
        self._stdout, self._stderr = self.folder / "stdout", self.folder / "stderr"
        try:
            with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    env=_environment(self.folder),
                    # Before Python 3.11 `-m` looks for modules in the current folder first: one of ours, and empty.
                    cwd=self.folder if in_folder else None,
                )
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise UsageError(f"{what}: cannot start a process: {error}") from error

    def ask(self, request: Mapping[str, Any]) -> Child:
        """Send `request`, with the folder's name in it; once."""
        line = json.dumps({**request, "folder": str(self.folder)}) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; result() says why
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        return self

    def result(self) -> dict[str, Any]:
        """Wait for the answer. Raises what the child raised; UsageError for a crash."""
        code = self._process.wait()
        answer = self._answer()
        if answer is None:
            raise UsageError(f"{self.what}: {_why(code, self._tail())}")
        if "error" in answer:
            raise _rebuilt(answer, self.what)
        return answer

    def close(self) -> None:
        """Stop the child if it still runs, and remove its folder. Safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any] | None:
        lines = self._stdout.read_bytes().splitlines()
        try:
            answer = json.loads(lines[-1]) if lines else None
        except ValueError:
            return None
        return answer if isinstance(answer, dict) else None

    def _tail(self) -> str:
        with self._stderr.open("rb") as file:
            file.seek(max(0, self._stderr.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONSAFEPATH": "1",  # a tensorflow.py in the current folder is not TensorFlow
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "ABSL_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",  # converting needs no GPU, and claiming one takes seconds and memory
        "KERAS_BACKEND": "tensorflow",
        # Large blocks go back to the system when they are freed: a converter's peak is a quarter lower.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "KERAS_HOME": str(folder / "keras"),  # the user's own keras.json may ask for another float type or layout
    }


def _rebuilt(answer: Mapping[str, Any], what: str) -> EdgeloopError:
    """The child's error as the class it was. A class that edgeloop does not have becomes a UsageError."""
    message, hint = str(answer.get("message", "failed")), answer.get("hint")
    if answer.get("extra"):
        return MissingExtraError(str(answer.get("feature")), str(answer["extra"]))
    kind = getattr(errors, str(answer["error"]), None)
    if isinstance(kind, type) and issubclass(kind, EdgeloopError) and not issubclass(kind, MissingExtraError):
        return kind(message, hint=hint)
    return UsageError(f"{what}: {message}", hint=hint)


def _why(code: int, log: str) -> str:
    """One line for a child that ended without an answer."""
    if code == -signal.SIGKILL:
        return "the converter was killed, most likely because memory ran out"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"the converter crashed ({name}){_last_line(log)}"
    return f"the converter stopped with exit code {code}{_last_line(log)}"


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
