"""A process beside this one for libraries that take long to import: it imports them while we do other things, and
answers meanwhile what needs only those that are there.

Questions and answers are a line of JSON followed by as many bytes as the line says. The process ends with its stdin.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

from edgeloop.errors import EdgeloopError, UsageError
from edgeloop_converters.importing import without_garbage_collection

DUTIES = {"pack": "edgeloop_converters.aeq", "score": "edgeloop_converters.scoring"}
"""Duty -> module with `warm()`, which imports, and `answer(question, payload) -> (answer, payload)`."""

# Without the current folder on the path: a json.py there is not the standard library's.
_START = "import sys; sys.path[:] = filter(None, sys.path); from edgeloop_converters.assistant import main; main()"
_MOST_LINE_BYTES = 64 << 20


class Crashed(Exception):
    """The process ended without an answer. str: how."""


class Assistant:
    """`with Assistant() as assistant: assistant.expect("pack"); ...; assistant.ask("pack", {...}, model)`.

    The process starts at once. `expect` lets it import what a duty needs; questions are answered without that too.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def expect(self, duty: str) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                _send(process.stdin, {"expect": duty})

    def ask(self, duty: str, question: Mapping[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Raises Crashed without an answer, UsageError for what the duty refused."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise Crashed("no process could be started")
        try:
            _send(process.stdin, {"duty": duty, "question": dict(question)}, payload)
            received = _receive(process.stdout)
        except (OSError, ValueError):
            received = None
        if received is None:
            raise Crashed(_why(process))
        answer, result = received
        if "error" in answer:
            raise UsageError(str(answer["error"]), hint=answer.get("hint"))
        return answer, result

    def close(self) -> None:
        """End the process. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Assistant:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def main() -> None:
    """The process: answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer; our stdin then ends
    from concurrent.futures import ThreadPoolExecutor  # here: the parent imports this module before all else

    warming = ThreadPoolExecutor(1)
    while (received := _receive(sys.stdin.buffer)) is not None:
        request, payload = received
        if "expect" in request:
            warming.submit(_warm, request["expect"])
            continue
        try:
            answer, result = _module(request["duty"]).answer(request["question"], payload)
        except EdgeloopError as error:
            answer, result = {"error": error.message, "hint": error.hint}, b""
        _send(answers, answer, result)
    os._exit(0)  # imports under way are of no use to anybody


def _warm(duty: str) -> None:
    with contextlib.suppress(ImportError), without_garbage_collection():  # what is missing is said where it is needed
        _module(duty).warm()


def _module(duty: str) -> Any:
    return importlib.import_module(DUTIES[duty])


def _send(pipe: IO[bytes], message: Mapping[str, Any], payload: bytes = b"") -> None:
    pipe.write(json.dumps({**message, "bytes": len(payload)}).encode() + b"\n")
    pipe.write(payload)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """None at the end of the stream. Raises ValueError for what is no message."""
    line = pipe.readline(_MOST_LINE_BYTES)
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    payload = pipe.read(message["bytes"])
    return (message, payload) if len(payload) == message["bytes"] else None


def _why(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return "it gave no answer"
    if code == -signal.SIGKILL:
        return "it was killed, most likely because memory ran out"
    return f"it crashed ({signal.Signals(-code).name})" if code < 0 else f"it stopped with exit code {code}"
